//! Which host names a queried name may mean to a client.

/// A host name that the queried name may stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alias {
    /// The host name, lower case, without trailing dot.
    pub(crate) host: String,
    /// How many leading labels of the queried name are left when a search domain is taken off; `None` if none was.
    pub(crate) stripped_to: Option<usize>,
}

/// Everything that a name may mean to a client of `namespace`, most literal first.
///
/// Pods have search domains, so that a resolver asks for `example.com.shop.svc.cluster.local` before `example.com`:
/// the name is looked at as it is, then with the Kubernetes domain completed, then both again without search domain.
pub(crate) fn aliases(labels: &[String], namespace: &str, domain: &[String]) -> Vec<Alias> {
    let mut aliases: Vec<Alias> = Vec::new();
    let mut push = |host: String, stripped_to| {
        if !aliases.iter().any(|alias| alias.host == host) {
            aliases.push(Alias { host, stripped_to });
        }
    };
    push(labels.join("."), None);
    expansions(labels, namespace, domain).into_iter().for_each(|host| push(host, None));
    for search in search_domains(namespace, domain) {
        let Some(stripped) = labels.strip_suffix(search.as_slice()).filter(|rest| !rest.is_empty()) else { continue };
        push(stripped.join("."), Some(stripped.len()));
        expansions(stripped, namespace, domain).into_iter().for_each(|host| push(host, Some(stripped.len())));
    }
    aliases
}

/// Wildcards that cover a host name, closest first; a single label has none.
pub(crate) fn wildcards(host: &str) -> impl Iterator<Item = String> {
    host.match_indices('.').filter_map(|(dot, _)| host.get(dot..)).map(|rest| format!("*{rest}"))
}

/// The search domains of a pod's resolver, as the kubelet writes them.
fn search_domains(namespace: &str, domain: &[String]) -> [Vec<String>; 3] {
    let with = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).chain(domain.iter().cloned()).collect();
    [with(&[namespace, "svc"]), with(&["svc"]), with(&[])]
}

/// The full names of Kubernetes Services that a short name may mean.
fn expansions(labels: &[String], namespace: &str, domain: &[String]) -> Vec<String> {
    let domain = domain.join(".");
    match labels {
        [a] => vec![format!("{a}.{namespace}.svc.{domain}")],
        [a, b] => vec![format!("{a}.{b}.svc.{domain}"), format!("{a}.{b}.{namespace}.svc.{domain}")],
        [a, b, c] => {
            let service = (c == "svc").then(|| format!("{a}.{b}.svc.{domain}"));
            service.into_iter().chain([format!("{a}.{b}.{c}.svc.{domain}")]).collect()
        }
        [a, b, c, svc] if svc == "svc" => vec![format!("{a}.{b}.{c}.svc.{domain}")],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &str) -> Vec<String> {
        name.split('.').map(str::to_owned).collect()
    }

    fn hosts(name: &str) -> Vec<String> {
        aliases(&labels(name), "shop", &labels("cluster.local")).into_iter().map(|alias| alias.host).collect()
    }

    #[test]
    fn short_names_are_completed_by_the_number_of_their_labels() {
        assert_eq!(hosts("cart"), ["cart", "cart.shop.svc.cluster.local"]);
        assert_eq!(
            hosts("cart.bank"),
            ["cart.bank", "cart.bank.svc.cluster.local", "cart.bank.shop.svc.cluster.local"]
        );
        assert_eq!(
            hosts("cart.bank.svc"),
            ["cart.bank.svc", "cart.bank.svc.cluster.local", "cart.bank.svc.svc.cluster.local"]
        );
        assert_eq!(hosts("a.b.c"), ["a.b.c", "a.b.c.svc.cluster.local"]);
        assert_eq!(hosts("a.b.c.svc"), ["a.b.c.svc", "a.b.c.svc.cluster.local"]);
        assert_eq!(hosts("a.b.c.d"), ["a.b.c.d"]);
        assert_eq!(hosts("a.b.c.d.e"), ["a.b.c.d.e"]);
    }

    #[test]
    fn search_domains_are_taken_off_and_the_rest_is_completed_again() {
        let found = aliases(&labels("example.com.shop.svc.cluster.local"), "shop", &labels("cluster.local"));
        let stripped: Vec<_> = found.iter().map(|alias| (alias.host.as_str(), alias.stripped_to)).collect();
        assert_eq!(
            stripped,
            [
                ("example.com.shop.svc.cluster.local", None),
                ("example.com", Some(2)),
                ("example.com.svc.cluster.local", Some(2)),
                ("example.com.shop", Some(3)),
                ("example.com.shop.svc", Some(4)),
            ]
        );
    }

    #[test]
    fn a_name_that_is_written_out_is_not_taken_for_a_shortened_one() {
        let found = aliases(&labels("cart.shop.svc.cluster.local"), "shop", &labels("cluster.local"));
        assert_eq!(found[0], Alias { host: "cart.shop.svc.cluster.local".to_owned(), stripped_to: None });
        assert!(!found[1..].iter().any(|alias| alias.host == found[0].host), "{found:?}");
    }

    #[test]
    fn a_search_domain_by_itself_is_not_stripped_to_nothing() {
        assert_eq!(hosts("cluster.local")[0], "cluster.local");
        assert!(hosts("svc.cluster.local").iter().all(|host| !host.is_empty()));
    }

    #[test]
    fn wildcards_go_from_close_to_far() {
        assert_eq!(wildcards("www.example.com").collect::<Vec<_>>(), ["*.example.com", "*.com"]);
        assert_eq!(wildcards("localhost").count(), 0);
    }
}
