//! Which valid name a misspelt one stands for.

/// The candidate nearest to a misspelt name, if one is near enough to be what its author meant.
///
/// In this order: the same but for case and separators, a candidate that ends or begins with the name at a word
/// boundary (`headers`, `fromHeaders`), the fewest typing errors, at most a third of the name's length.
///
/// ```
/// let fields = ["mtls", "portLevelMtls", "selector"];
/// assert_eq!(kinds::check::nearest("mTLS", fields), Some("mtls"));
/// assert_eq!(kinds::check::nearest("minRequestVolume", fields), None);
/// ```
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(name);
    candidates
        .into_iter()
        .filter_map(|candidate| distance(name, &folded, candidate).map(|distance| (distance, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Smaller is nearer; `None` is too far.
fn distance(name: &str, folded: &str, candidate: &str) -> Option<usize> {
    let other = fold(candidate);
    if other == folded {
        return Some(0);
    }
    let errors = strsim::damerau_levenshtein(folded, &other);
    let near = errors <= folded.chars().count().max(3) / 3;
    let contains = name.len() >= 4 && (ends_with_word(candidate, folded) || ends_with_word(name, &other));
    match (near, contains) {
        (true, _) => Some(errors),
        // Behind every candidate that differs by a slip of the finger only.
        (false, true) => Some(100 + errors),
        (false, false) => None,
    }
}

/// Whether the text ends with this lower-case name, starting at a word of its camel case.
fn ends_with_word(text: &str, name: &str) -> bool {
    let start = text.len().checked_sub(name.len()).filter(|start| *start > 0 && text.is_char_boundary(*start));
    start.is_some_and(|start| {
        let tail = text.get(start..).unwrap_or_default();
        tail.starts_with(char::is_uppercase) && tail.to_lowercase() == name
    })
}

fn fold(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_find_their_field() {
        let jwt = ["issuer", "audiences", "jwksUri", "fromHeaders", "fromParams", "outputClaimToHeaders", "timeout"];
        for (found, meant) in [
            ("claimToHeaders", "outputClaimToHeaders"),
            ("headers", "fromHeaders"),
            ("jwksURI", "jwksUri"),
            ("jwks_uri", "jwksUri"),
            ("audience", "audiences"),
            ("isuer", "issuer"),
        ] {
            assert_eq!(nearest(found, jwt), Some(meant), "{found}");
        }
        assert_eq!(
            nearest("useRequestIdForTracingSampling", ["providers", "useRequestIdForTraceSampling"]),
            Some("useRequestIdForTraceSampling")
        );
        assert_eq!(nearest("STRIKT", ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]), Some("STRICT"));
    }

    #[test]
    fn unrelated_names_find_nothing() {
        let outlier =
            ["consecutive5xxErrors", "interval", "baseEjectionTime", "maxEjectionPercent", "minHealthPercent"];
        assert_eq!(nearest("minRequestVolume", outlier), None);
        assert_eq!(nearest("x", ["mtls", "to", "from"]), None);
        assert_eq!(nearest("", ["mtls"]), None);
    }
}
