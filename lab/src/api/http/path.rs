//! The paths of the REST interface.

use super::query::percent_decode;
use crate::api::kind::{self, Kind};
use crate::api::{Status, discovery};

/// Where a request goes.
pub(super) enum Path {
    Health,
    Version,
    CoreVersions,
    Groups,
    Group(String),
    Resources { group: String, version: String },
    OpenApi2,
    OpenApiPaths,
    OpenApi { group: String, version: String },
    Objects(Address),
    Review(&'static str),
}

/// Objects of a kind: all, those of a namespace, one, or a part of one.
pub(super) struct Address {
    pub(super) kind: &'static Kind,
    pub(super) version: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) sub: Option<String>,
}

/// Reads a path.
///
/// # Errors
/// `NotFound`.
pub(super) fn parse(path: &str) -> Result<Path, Status> {
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).map(percent_decode).collect();
    let segments: Vec<_> = segments.iter().map(String::as_str).collect();
    Ok(match segments.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => Path::Health,
        ["version"] => Path::Version,
        ["api"] => Path::CoreVersions,
        ["apis"] => Path::Groups,
        ["apis", group] => Path::Group((*group).to_owned()),
        ["api", version] => Path::Resources { group: String::new(), version: (*version).to_owned() },
        ["apis", group, version] => Path::Resources { group: (*group).to_owned(), version: (*version).to_owned() },
        ["openapi", "v2"] => Path::OpenApi2,
        ["openapi", "v3"] => Path::OpenApiPaths,
        ["openapi", "v3", "api", version] => Path::OpenApi { group: String::new(), version: (*version).to_owned() },
        ["openapi", "v3", "apis", group, version] => {
            Path::OpenApi { group: (*group).to_owned(), version: (*version).to_owned() }
        }
        ["api", version, rest @ ..] => objects("", version, rest)?,
        ["apis", group, version, rest @ ..] => objects(group, version, rest)?,
        _ => return Err(Status::no_such_resource()),
    })
}

fn objects(group: &str, version: &str, rest: &[&str]) -> Result<Path, Status> {
    if let ([resource], "v1") = (rest, version)
        && let Some((_, kind, _)) = discovery::REVIEWS.iter().find(|(of, _, name)| *of == group && name == resource)
    {
        return Ok(Path::Review(kind));
    }
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !matches!(rest, [] | ["status"]) => (Some(*namespace), rest),
        rest => (None, rest),
    };
    let (plural, name, sub) = match rest {
        [plural] => (plural, None, None),
        [plural, name] => (plural, Some(*name), None),
        [plural, name, sub] => (plural, Some(*name), Some(*sub)),
        _ => return Err(Status::no_such_resource()),
    };
    let kind = kind::by_resource(group, version, plural).ok_or_else(Status::no_such_resource)?;
    if kind.namespaced != namespace.is_some() && (namespace.is_some() || name.is_some()) {
        return Err(Status::no_such_resource());
    }
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Ok(Path::Objects(Address {
        kind,
        version: version.to_owned(),
        namespace: owned(namespace),
        name: owned(name),
        sub: owned(sub),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(path: &str) -> String {
        match parse(path) {
            Ok(Path::Objects(address)) => {
                let text = |text: Option<String>| text.unwrap_or_else(|| "-".into());
                let (namespace, name, sub) = (text(address.namespace), text(address.name), text(address.sub));
                format!("{} {} {namespace} {name} {sub}", address.kind.resource(), address.version)
            }
            Ok(Path::Review(kind)) => kind.to_owned(),
            Ok(_) => "other".into(),
            Err(status) => status.reason.to_owned(),
        }
    }

    #[test]
    fn resource_paths_are_read() {
        for (path, expected) in [
            ("/api/v1/pods", "pods v1 - - -"),
            ("/api/v1/namespaces/shop/pods/cart/log", "pods v1 shop cart log"),
            ("/api/v1/namespaces/shop", "namespaces v1 - shop -"),
            ("/api/v1/namespaces/shop/status", "namespaces v1 - shop status"),
            ("/apis/apps/v1/namespaces/shop/deployments", "deployments.apps v1 shop - -"),
            ("/apis/networking.istio.io/v1beta1/gateways", "gateways.networking.istio.io v1beta1 - - -"),
            ("/apis/authentication.k8s.io/v1/tokenreviews", "TokenReview"),
            ("/api", "other"),
        ] {
            assert_eq!(described(path), expected, "{path}");
        }
    }

    #[test]
    fn paths_without_meaning_are_not_found() {
        for path in [
            "/",
            "/api/v2/pods",
            "/api/v1/pods/cart",
            "/api/v1/namespaces/shop/nodes",
            "/api/v1/namespaces/shop/pods/cart/log/more",
            "/apis/apps/v1beta1/deployments",
            "/apis/apps/v1/pods",
            "/metrics",
        ] {
            assert_eq!(described(path), "NotFound", "{path}");
        }
    }
}
