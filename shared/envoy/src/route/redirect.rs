//! Where a route sends clients.

use envoy_types::pb::envoy::config::route::v3::RedirectAction;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use routing::{PathRewrite, Redirect, RedirectPath, RedirectStatus};

use crate::matcher;
use crate::place::{Place, Refused};

/// A `RedirectAction`.
pub(super) fn redirect(place: &Place<'_>, wire: &RedirectAction) -> Result<Redirect, Refused> {
    let RedirectAction {
        host_redirect,
        port_redirect,
        response_code,
        strip_query,
        scheme_rewrite_specifier,
        path_rewrite_specifier,
    } = wire;
    let scheme = match scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https"),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(scheme.as_str()),
        Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
    };
    let at = place.field("port_redirect");
    let port = u16::try_from(*port_redirect).map_err(|_| at.refuse_found(port_redirect, "a port"))?;
    Ok(Redirect {
        scheme: scheme.filter(|scheme| !scheme.is_empty()).map(Into::into),
        host: (!host_redirect.is_empty()).then(|| host_redirect.as_str().into()),
        port: (port != 0).then_some(port),
        path: path_rewrite_specifier.as_ref().map(|wire| path(place, wire)).transpose()?.flatten(),
        strips_query: *strip_query,
        status: status(&place.field("response_code"), *response_code)?,
    })
}

fn path(place: &Place<'_>, wire: &PathRewriteSpecifier) -> Result<Option<RedirectPath>, Refused> {
    Ok(match wire {
        PathRewriteSpecifier::PathRedirect(path) => {
            (!path.is_empty()).then(|| RedirectPath::Full(path.as_str().into()))
        }
        PathRewriteSpecifier::PrefixRewrite(prefix) => {
            (!prefix.is_empty()).then(|| RedirectPath::Rewrite(PathRewrite::Prefix(prefix.as_str().into())))
        }
        PathRewriteSpecifier::RegexRewrite(wire) => {
            let (pattern, substitution) = matcher::substitution(&place.field("regex_rewrite"), wire)?;
            Some(RedirectPath::Rewrite(PathRewrite::Pattern { pattern, substitution }))
        }
        PathRewriteSpecifier::PathRewrite(_) => return Err(place.field("path_rewrite").refuse("is not supported")),
    })
}

fn status(place: &Place<'_>, code: i32) -> Result<RedirectStatus, Refused> {
    Ok(match RedirectResponseCode::try_from(code) {
        Ok(RedirectResponseCode::MovedPermanently) => RedirectStatus::MovedPermanently,
        Ok(RedirectResponseCode::Found) => RedirectStatus::Found,
        Ok(RedirectResponseCode::SeeOther) => RedirectStatus::SeeOther,
        Ok(RedirectResponseCode::TemporaryRedirect) => RedirectStatus::Temporary,
        Ok(RedirectResponseCode::PermanentRedirect) => RedirectStatus::Permanent,
        Err(_) => return Err(place.refuse_found(code, "a RedirectResponseCode")),
    })
}
