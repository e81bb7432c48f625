//! Values of a RequestAuthentication.

use super::Report;
use super::peer_authentication::selector;
use crate::security::RequestAuthenticationSpec;

pub(super) fn check(spec: &RequestAuthenticationSpec, report: &mut Report) {
    selector(spec.selector.as_ref(), report);
    let is_for_waypoints = spec.target_ref.is_some() || !spec.target_refs.is_empty();
    for (index, rule) in spec.jwt_rules.iter().enumerate() {
        let path = format!("spec.jwtRules[{index}]");
        if rule.issuer.is_empty() {
            report.missing(&format!("{path}.issuer"), "the issuer of the tokens");
        }
        for (name, uri) in [("jwksUri", &rule.jwks_uri), ("jwks_uri", &rule.jwks_uri_old)] {
            let is_http = |uri: &String| uri.starts_with("http://") || uri.starts_with("https://");
            if let Some(uri) = uri.as_ref().filter(|uri| !is_http(uri)) {
                report.bad_value(&format!("{path}.{name}"), uri, "a URL with http:// or https://");
            }
        }
    }
    if !is_for_waypoints {
        let advice = "set spec.targetRefs to the Service; on its own it denies only requests with an invalid token";
        report.unsupported(
            "spec.selector",
            "ztunnel does not evaluate tokens and waypoints ignore policies that are bound by a selector",
            advice,
        );
    }
}
