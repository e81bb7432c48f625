//! Random route tables.

use envoy_types::pb::envoy::config::core::v3::{
    DataSource, HeaderValue, HeaderValueOption, data_source::Specifier, header_value_option::HeaderAppendAction,
};
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use envoy_types::pb::envoy::config::route::v3::route_match::{GrpcRouteMatchOptions, PathSpecifier};
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, HeaderMatcher, QueryParameterMatcher, RedirectAction, Route, RouteAction, RouteConfiguration,
    RouteMatch, VirtualHost, route::Action,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{
    RegexMatchAndSubstitute, RegexMatcher, StringMatcher, string_matcher::MatchPattern,
};
use envoy_types::pb::envoy::r#type::v3::Int64Range;
use envoy_types::pb::google::protobuf::BoolValue;
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use crate::peer::CLUSTERS;

const DOMAINS: [&str; 7] = ["a.b", "*.a.b", "*.b", "a.*", "a.b:80", "x.*", "*"];
const PREFIXES: [&str; 8] = ["/", "/v1", "/v1/", "/v1/x", "/V1", "/v1?", "/v2", "/a%20b"];
const REGEXES: [&str; 6] = [r"/v\d+", "/v1.*", r"/v1/[a-z]+", ".*", "/(v1|v2)/x", "/v1"];
const NAMES: [&str; 4] = ["x-a", "x-b", "accept", ":method"];

/// A route table that Envoy takes.
pub(crate) fn table(random: &mut SmallRng) -> RouteConfiguration {
    let domains: Vec<&str> = DOMAINS.iter().copied().filter(|_| random.random_bool(0.6)).collect();
    let hosts = domains.iter().enumerate().map(|(index, domain)| VirtualHost {
        name: format!("host-{index}"),
        domains: vec![(*domain).to_owned()],
        routes: (0..random.random_range(1..7)).map(|route| self::route(random, &format!("{index}-{route}"))).collect(),
        request_headers_to_add: additions(random),
        response_headers_to_add: additions(random),
        request_headers_to_remove: removals(random),
        ..VirtualHost::default()
    });
    RouteConfiguration {
        virtual_hosts: hosts.collect(),
        request_headers_to_add: additions(random),
        response_headers_to_add: additions(random),
        most_specific_header_mutations_wins: random.random_bool(0.3),
        ignore_port_in_host_matching: random.random_bool(0.3),
        // Routes to clusters that do not exist are part of the test.
        validate_clusters: Some(BoolValue { value: false }),
        ..RouteConfiguration::default()
    }
}

fn route(random: &mut SmallRng, name: &str) -> Route {
    let action = match random.random_range(0..10) {
        0..5 => Action::Route(forward(random)),
        5..8 => Action::Redirect(redirect(random)),
        _ => Action::DirectResponse(DirectResponseAction {
            status: 218,
            body: Some(DataSource {
                specifier: Some(Specifier::InlineString(name.to_owned())),
                ..DataSource::default()
            }),
            ..DirectResponseAction::default()
        }),
    };
    Route {
        name: name.to_owned(),
        r#match: Some(route_match(random)),
        action: Some(action),
        request_headers_to_add: additions(random),
        request_headers_to_remove: removals(random),
        response_headers_to_add: additions(random),
        ..Route::default()
    }
}

fn route_match(random: &mut SmallRng) -> RouteMatch {
    let prefix = PREFIXES.choose(random).unwrap();
    let path = match random.random_range(0..5) {
        0 => PathSpecifier::Path((*prefix).to_owned()),
        1 => PathSpecifier::SafeRegex(regex(random)),
        2 if prefix.len() > 1 && !prefix.ends_with(['/', '?']) => {
            PathSpecifier::PathSeparatedPrefix((*prefix).to_owned())
        }
        _ => PathSpecifier::Prefix((*prefix).to_owned()),
    };
    // Envoy takes no switch of case beside a pattern.
    let may_ignore_case = !matches!(path, PathSpecifier::SafeRegex(_));
    let count = |random: &mut SmallRng| [0, 0, 0, 1, 2].choose(random).copied().unwrap();
    RouteMatch {
        path_specifier: Some(path),
        case_sensitive: (may_ignore_case && random.random_bool(0.3)).then_some(BoolValue { value: false }),
        headers: (0..count(random)).map(|_| header(random)).collect(),
        query_parameters: (0..count(random)).map(|_| query(random)).collect(),
        grpc: random.random_bool(0.05).then(GrpcRouteMatchOptions::default),
        ..RouteMatch::default()
    }
}

fn header(random: &mut SmallRng) -> HeaderMatcher {
    let specifier = match random.random_range(0..6) {
        0 => Some(HeaderMatchSpecifier::PresentMatch(random.random_bool(0.5))),
        1 => Some(HeaderMatchSpecifier::RangeMatch(Int64Range { start: -5, end: random.random_range(0..11) })),
        2 => None,
        _ => Some(HeaderMatchSpecifier::StringMatch(text(random))),
    };
    HeaderMatcher {
        name: (*NAMES.choose(random).unwrap()).to_owned(),
        invert_match: random.random_bool(0.3),
        treat_missing_header_as_empty: random.random_bool(0.3),
        header_match_specifier: specifier,
    }
}

fn query(random: &mut SmallRng) -> QueryParameterMatcher {
    QueryParameterMatcher {
        name: (*["x", "y", "q"].choose(random).unwrap()).to_owned(),
        query_parameter_match_specifier: match random.random_range(0..3) {
            0 => None,
            1 => Some(QueryParameterMatchSpecifier::PresentMatch(random.random_bool(0.5))),
            _ => Some(QueryParameterMatchSpecifier::StringMatch(text(random))),
        },
    }
}

fn text(random: &mut SmallRng) -> StringMatcher {
    let some = ["1", "a", "abc", "GET", "5", "2"].choose(random).unwrap().to_string();
    let pattern = match random.random_range(0..5) {
        0 => MatchPattern::Prefix(some),
        1 => MatchPattern::Suffix(some),
        2 => MatchPattern::Contains(some),
        3 => {
            let regexes = [
                format!("{some}.*|[a-c]+"),
                ".".to_owned(),
                r"\w*\W*".to_owned(),
                "[^a]*".to_owned(),
                "a..".to_owned(),
            ];
            let regex = regexes.choose(random).unwrap().clone();
            MatchPattern::SafeRegex(RegexMatcher { regex, ..RegexMatcher::default() })
        }
        _ => MatchPattern::Exact(some),
    };
    let ignore_case = !matches!(pattern, MatchPattern::SafeRegex(_)) && random.random_bool(0.4);
    StringMatcher { ignore_case, match_pattern: Some(pattern) }
}

fn regex(random: &mut SmallRng) -> RegexMatcher {
    RegexMatcher { regex: (*REGEXES.choose(random).unwrap()).to_owned(), ..RegexMatcher::default() }
}

fn substitution(random: &mut SmallRng) -> RegexMatchAndSubstitute {
    let (pattern, substitution) =
        *[("/v(\\d+)", "/version-\\1"), ("1", "11"), ("^/v1/?(.*)$", "/\\1"), ("x", "")].choose(random).unwrap();
    let pattern = RegexMatcher { regex: pattern.to_owned(), ..RegexMatcher::default() };
    RegexMatchAndSubstitute { pattern: Some(pattern), substitution: substitution.to_owned() }
}

fn forward(random: &mut SmallRng) -> RouteAction {
    let cluster = match random.random_range(0..8) {
        0 => ClusterSpecifier::ClusterHeader("x-to".to_owned()),
        1 => ClusterSpecifier::Cluster("nowhere".to_owned()),
        _ => ClusterSpecifier::Cluster((*CLUSTERS.choose(random).unwrap()).to_owned()),
    };
    let (prefix, pattern) = match random.random_range(0..4) {
        0 => ((*["/", "/new", "/new/", "/new?z=1"].choose(random).unwrap()).to_owned(), None),
        1 => (String::new(), Some(substitution(random))),
        _ => (String::new(), None),
    };
    let host = match random.random_range(0..6) {
        0 => Some(HostRewriteSpecifier::HostRewriteLiteral("elsewhere:9".to_owned())),
        1 => Some(HostRewriteSpecifier::HostRewriteHeader("x-to".to_owned())),
        2 => Some(HostRewriteSpecifier::HostRewritePathRegex(substitution(random))),
        _ => None,
    };
    RouteAction {
        cluster_specifier: Some(cluster),
        cluster_not_found_response_code: random.random_range(0..3),
        prefix_rewrite: prefix,
        regex_rewrite: pattern,
        host_rewrite_specifier: host,
        append_x_forwarded_host: random.random_bool(0.3),
        ..RouteAction::default()
    }
}

fn redirect(random: &mut SmallRng) -> RedirectAction {
    let codes = [
        RedirectResponseCode::MovedPermanently,
        RedirectResponseCode::Found,
        RedirectResponseCode::SeeOther,
        RedirectResponseCode::TemporaryRedirect,
        RedirectResponseCode::PermanentRedirect,
    ];
    let scheme = match random.random_range(0..3) {
        0 => Some(SchemeRewriteSpecifier::HttpsRedirect(true)),
        1 => Some(SchemeRewriteSpecifier::SchemeRedirect("http".to_owned())),
        _ => None,
    };
    let path = match random.random_range(0..4) {
        0 => {
            Some(PathRewriteSpecifier::PathRedirect((*["/new", "/new?own=1", "/"].choose(random).unwrap()).to_owned()))
        }
        1 => Some(PathRewriteSpecifier::PrefixRewrite((*["/", "/new", "/new/"].choose(random).unwrap()).to_owned())),
        2 => Some(PathRewriteSpecifier::RegexRewrite(substitution(random))),
        _ => None,
    };
    RedirectAction {
        host_redirect: (*["", "", "new.example", "new.example:81"].choose(random).unwrap()).to_owned(),
        port_redirect: *[0, 0, 80, 8443].choose(random).unwrap(),
        response_code: (*codes.choose(random).unwrap()).into(),
        strip_query: random.random_bool(0.3),
        scheme_rewrite_specifier: scheme,
        path_rewrite_specifier: path,
    }
}

fn additions(random: &mut SmallRng) -> Vec<HeaderValueOption> {
    let count = [0, 0, 0, 1, 2].choose(random).copied().unwrap();
    (0..count).map(|_| addition(random)).collect()
}

fn addition(random: &mut SmallRng) -> HeaderValueOption {
    let actions = [
        HeaderAppendAction::AppendIfExistsOrAdd,
        HeaderAppendAction::AddIfAbsent,
        HeaderAppendAction::OverwriteIfExistsOrAdd,
        HeaderAppendAction::OverwriteIfExists,
    ];
    let value = *["one", "two", "", "%REQ(x-a)%", "a-%REQ(X-B)%-b", "100%%"].choose(random).unwrap();
    HeaderValueOption {
        header: Some(HeaderValue {
            key: (*["x-a", "x-b", "x-new", "x-new-2"].choose(random).unwrap()).to_owned(),
            value: value.to_owned(),
            ..HeaderValue::default()
        }),
        append_action: (*actions.choose(random).unwrap()).into(),
        keep_empty_value: random.random_bool(0.3),
        ..HeaderValueOption::default()
    }
}

fn removals(random: &mut SmallRng) -> Vec<String> {
    if random.random_bool(0.2) { vec!["x-b".to_owned()] } else { Vec::new() }
}
