//! Random hash policies.

use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};
use envoy_types::pb::google::protobuf::Duration as Span;
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

/// Some policies of a route.
pub(crate) fn policies(random: &mut SmallRng) -> Vec<HashPolicy> {
    let count = *[1, 1, 2, 3].choose(random).unwrap();
    (0..count).map(|_| policy(random)).collect()
}

fn policy(random: &mut SmallRng) -> HashPolicy {
    let specifier = match random.random_range(0..6) {
        0 => PolicySpecifier::QueryParameter(QueryParameter {
            name: (*["x", "y", "a b", "a+b", "a%20b"].choose(random).unwrap()).to_owned(),
        }),
        1 | 2 => PolicySpecifier::Cookie(cookie(random)),
        _ => PolicySpecifier::Header(Header {
            header_name: (*["x-a", "X-B", ":path", ":authority", "host"].choose(random).unwrap()).to_owned(),
            regex_rewrite: random.random_bool(0.3).then(|| rewrite(random)),
        }),
    };
    HashPolicy { terminal: random.random_bool(0.4), policy_specifier: Some(specifier) }
}

fn rewrite(random: &mut SmallRng) -> RegexMatchAndSubstitute {
    let (pattern, substitution) = *[("^user-(.*)$", "\\1"), ("b", "11"), ("[a-c]*", "")].choose(random).unwrap();
    let pattern = RegexMatcher { regex: pattern.to_owned(), ..RegexMatcher::default() };
    RegexMatchAndSubstitute { pattern: Some(pattern), substitution: substitution.to_owned() }
}

fn cookie(random: &mut SmallRng) -> Cookie {
    // A cookie that is generated is hashed by the policies from then on only, so that not all may ask for the same one.
    let is_generated = random.random_bool(0.7);
    let ttls = [(0, 0), (60, 0), (1, 500_000_000), (0, 5_000_000)];
    let attributes = [("SameSite", "Lax"), ("Secure", ""), ("Partitioned", "")];
    let attributes: Vec<_> = attributes.iter().filter(|_| random.random_bool(0.3)).collect();
    let (seconds, nanos) = *ttls.choose(random).unwrap();
    Cookie {
        name: (if is_generated { "session" } else { "user" }).to_owned(),
        ttl: is_generated.then_some(Span { seconds, nanos }),
        path: (*["", "/shop"].choose(random).unwrap()).to_owned(),
        attributes: attributes
            .iter()
            .map(|(name, value)| CookieAttribute { name: (*name).to_owned(), value: (*value).to_owned() })
            .collect(),
    }
}
