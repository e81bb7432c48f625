//! The search of a virtual host by the authority of a request.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// A domain that is served twice in one table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("domain {0:?} is given twice")]
pub struct DuplicateDomain(Box<str>);

/// Which virtual host serves which domain, in lower case.
#[derive(Debug, Clone, Default)]
pub(super) struct Domains {
    exact: HashMap<Box<str>, usize>,
    /// What follows the `*`, by length.
    suffixes: Wildcards,
    /// What precedes the `*`, by length.
    prefixes: Wildcards,
    any: Option<usize>,
}

type Wildcards = BTreeMap<Reverse<usize>, HashMap<Box<str>, usize>>;

impl Domains {
    /// Adds a domain that the virtual host `host` serves.
    pub(super) fn insert(&mut self, domain: &str, host: usize) -> Result<(), DuplicateDomain> {
        let domain = domain.to_ascii_lowercase();
        let before = if domain == "*" {
            self.any.replace(host)
        } else if let Some(suffix) = domain.strip_prefix('*') {
            self.suffixes.entry(Reverse(suffix.len())).or_default().insert(suffix.into(), host)
        } else if let Some(prefix) = domain.strip_suffix('*') {
            self.prefixes.entry(Reverse(prefix.len())).or_default().insert(prefix.into(), host)
        } else {
            self.exact.insert(domain.as_str().into(), host)
        };
        before.map_or(Ok(()), |_| Err(DuplicateDomain(domain.into())))
    }

    /// Who serves `authority`: an exact domain before one with the longest end, before one with the longest beginning,
    /// before any; a `*` is at least one character, if it is not alone.
    pub(super) fn find(&self, authority: &str) -> Option<usize> {
        let authority = authority.to_ascii_lowercase();
        let end = |length: usize| authority.len().checked_sub(length).and_then(|start| authority.get(start..));
        self.exact
            .get(authority.as_str())
            .or_else(|| find(&self.suffixes, authority.len(), end))
            .or_else(|| find(&self.prefixes, authority.len(), |length| authority.get(..length)))
            .copied()
            .or(self.any)
    }
}

fn find<'a, 'w>(
    wildcards: &'w Wildcards,
    longer_than: usize,
    part: impl Fn(usize) -> Option<&'a str>,
) -> Option<&'w usize> {
    let shorter = wildcards.iter().filter(|(Reverse(length), _)| *length < longer_than);
    shorter.filter_map(|(Reverse(length), hosts)| hosts.get(part(*length)?)).next()
}

/// The authority without its port: without what follows the last colon, unless that is within an IPv6 address.
///
/// What follows need not be a number, as in Envoy.
pub(super) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn domains(all: &[&str]) -> Domains {
        let mut domains = Domains::default();
        for (host, domain) in all.iter().enumerate() {
            domains.insert(domain, host).unwrap();
        }
        domains
    }

    #[test]
    fn the_most_specific_domain_is_found() {
        let domains = domains(&["a.b.c", "*.b.c", "*-x.b.c", "a.*", "a.b.*", "*"]);
        let find = |authority| domains.find(authority).unwrap();
        assert_eq!(find("A.b.C"), 0);
        assert_eq!(find("z.b.c"), 1);
        assert_eq!(find("z-x.b.c"), 2);
        assert_eq!(find(".b.c"), 5, "the star is at least one character");
        assert_eq!(find("a.z"), 3);
        assert_eq!(find("a.b.z"), 4);
        assert_eq!(find("a."), 5);
        assert_eq!(find("a.b.c:80"), 4);
        assert_eq!(find(""), 5);
        assert_eq!(find("é.b.c"), 1);
        assert_eq!(find("é"), 5);
    }

    #[test]
    fn nothing_is_found_where_nobody_serves_the_authority() {
        assert_eq!(domains(&["a", "*.b", "c.*"]).find("d"), None);
        assert_eq!(Domains::default().find("d"), None);
    }

    #[test]
    fn a_domain_that_is_there_twice_is_refused() {
        for domain in ["a.b", "*.b", "a.*", "*"] {
            let mut domains = Domains::default();
            domains.insert(domain, 0).unwrap();
            assert_eq!(domains.insert(&domain.to_uppercase(), 1), Err(DuplicateDomain(domain.into())));
        }
        assert_eq!(DuplicateDomain("*".into()).to_string(), "domain \"*\" is given twice");
    }

    #[test]
    fn a_port_is_what_follows_the_last_colon() {
        assert_eq!(without_port("a:80"), "a");
        assert_eq!(without_port("a"), "a");
        assert_eq!(without_port("[::1]:80"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
        assert_eq!(without_port("a:"), "a");
        assert_eq!(without_port(""), "");
    }

    /// How good a domain is for an authority: the kind first, the length then.
    fn rank(domain: &str, authority: &str) -> Option<(u8, usize)> {
        let is_longer = authority.len() > domain.len() - 1;
        match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
            _ if domain == "*" => Some((0, 0)),
            (Some(end), _) => (is_longer && authority.ends_with(end)).then_some((2, end.len())),
            (_, Some(start)) => (is_longer && authority.starts_with(start)).then_some((1, start.len())),
            _ => (domain == authority).then_some((3, 0)),
        }
    }

    proptest! {
        #[test]
        fn the_search_agrees_with_a_look_at_every_domain(
            all in proptest::collection::btree_set("[ab.]{1,4}|\\*[ab.]{0,3}|[ab.]{1,3}\\*", 0..12),
            authority in "[ab.]{0,5}",
        ) {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let ranked = all.iter().enumerate().filter_map(|(host, domain)| Some((rank(domain, &authority)?, host)));
            let best = ranked.max().map(|(_, host)| host);
            prop_assert_eq!(domains(&all).find(&authority), best);
        }
    }
}
