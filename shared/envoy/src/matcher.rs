//! How texts, headers and what filters found out are compared.

use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use envoy_types::pb::envoy::r#type::matcher::v3::{
    self as wire, double_matcher, list_matcher, metadata_matcher, path_matcher, string_matcher, value_matcher,
};
use routing::{HeaderMatch, HeaderMatchKind, MetadataMatch, Pattern, TextMatch, ValueMatch};

use crate::place::{Place, Refused};

/// A `StringMatcher`.
pub(crate) fn text(place: &Place<'_>, matcher: &wire::StringMatcher) -> Result<TextMatch, Refused> {
    use string_matcher::MatchPattern;

    let wire::StringMatcher { ignore_case, match_pattern } = matcher;
    let ignores_case = *ignore_case;
    Ok(match place.field("match_pattern").need(match_pattern.as_ref())? {
        MatchPattern::Exact(text) => TextMatch::Exact { text: text.as_str().into(), ignores_case },
        MatchPattern::Prefix(text) => TextMatch::Prefix { text: text.as_str().into(), ignores_case },
        MatchPattern::Suffix(text) => TextMatch::Suffix { text: text.as_str().into(), ignores_case },
        MatchPattern::Contains(text) => TextMatch::Contains { text: text.as_str().into(), ignores_case },
        MatchPattern::SafeRegex(matcher) => TextMatch::Pattern(pattern(&place.field("safe_regex"), matcher)?),
        MatchPattern::Custom(_) => return Err(place.field("custom").refuse("is not supported")),
    })
}

/// A `RegexMatcher`.
pub(crate) fn pattern(place: &Place<'_>, matcher: &wire::RegexMatcher) -> Result<Pattern, Refused> {
    // There is but one engine, whose settings are deprecated and without effect.
    let wire::RegexMatcher { regex, engine_type: _ } = matcher;
    Pattern::new(regex).map_err(|error| place.field("regex").refuse(error))
}

/// A `RegexMatchAndSubstitute`.
pub(crate) fn substitution(
    place: &Place<'_>,
    wire: &wire::RegexMatchAndSubstitute,
) -> Result<(Pattern, Box<str>), Refused> {
    let wire::RegexMatchAndSubstitute { pattern: wanted, substitution } = wire;
    let at = place.field("pattern");
    Ok((pattern(&at, at.need(wanted.as_ref())?)?, substitution.as_str().into()))
}

/// A `PathMatcher`.
pub(crate) fn path(place: &Place<'_>, matcher: &wire::PathMatcher) -> Result<TextMatch, Refused> {
    let wire::PathMatcher { rule } = matcher;
    let path_matcher::Rule::Path(matcher) = place.field("rule").need(rule.as_ref())?;
    text(&place.field("path"), matcher)
}

/// A `HeaderMatcher`.
#[expect(deprecated, reason = "control planes still send the fields that string_match replaces")]
pub(crate) fn header(place: &Place<'_>, matcher: &HeaderMatcher) -> Result<HeaderMatch, Refused> {
    let HeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } = matcher;
    let of_text = |text: &String, how: fn(Box<str>) -> TextMatch| HeaderMatchKind::Text(how(text.as_str().into()));
    let kind = match header_match_specifier {
        // Any value will do.
        None => HeaderMatchKind::Present(true),
        Some(HeaderMatchSpecifier::PresentMatch(is_wanted)) => HeaderMatchKind::Present(*is_wanted),
        Some(HeaderMatchSpecifier::RangeMatch(range)) => HeaderMatchKind::Range(range.start, range.end),
        Some(HeaderMatchSpecifier::StringMatch(matcher)) => {
            HeaderMatchKind::Text(text(&place.field("string_match"), matcher)?)
        }
        Some(HeaderMatchSpecifier::SafeRegexMatch(matcher)) => {
            HeaderMatchKind::Text(TextMatch::Pattern(pattern(&place.field("safe_regex_match"), matcher)?))
        }
        Some(HeaderMatchSpecifier::ExactMatch(text)) => {
            of_text(text, |text| TextMatch::Exact { text, ignores_case: false })
        }
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => {
            of_text(text, |text| TextMatch::Prefix { text, ignores_case: false })
        }
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => {
            of_text(text, |text| TextMatch::Suffix { text, ignores_case: false })
        }
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => {
            of_text(text, |text| TextMatch::Contains { text, ignores_case: false })
        }
    };
    Ok(HeaderMatch {
        name: name.as_str().into(),
        kind,
        inverts: *invert_match,
        treats_missing_as_empty: *treat_missing_header_as_empty,
    })
}

/// A `MetadataMatcher`.
pub(crate) fn metadata(place: &Place<'_>, matcher: &wire::MetadataMatcher) -> Result<MetadataMatch, Refused> {
    let wire::MetadataMatcher { filter, path, value: wanted, invert } = matcher;
    let path = place.each("path", path, |place, segment| match &segment.segment {
        Some(metadata_matcher::path_segment::Segment::Key(key)) => Ok(key.as_str().into()),
        None => Err(place.field("key").refuse("is missing")),
    })?;
    let at = place.field("value");
    let value = value(&at, at.need(wanted.as_ref())?)?;
    Ok(MetadataMatch { filter: filter.as_str().into(), path, value, inverts: *invert })
}

/// A `ValueMatcher`.
pub(crate) fn value(place: &Place<'_>, matcher: &wire::ValueMatcher) -> Result<ValueMatch, Refused> {
    use value_matcher::MatchPattern;

    let wire::ValueMatcher { match_pattern } = matcher;
    Ok(match place.field("match_pattern").need(match_pattern.as_ref())? {
        MatchPattern::NullMatch(_) => ValueMatch::Null,
        MatchPattern::BoolMatch(wanted) => ValueMatch::Bool(*wanted),
        MatchPattern::PresentMatch(is_wanted) => ValueMatch::Present(*is_wanted),
        MatchPattern::StringMatch(matcher) => ValueMatch::Text(text(&place.field("string_match"), matcher)?),
        MatchPattern::DoubleMatch(matcher) => number(&place.field("double_match"), matcher)?,
        MatchPattern::ListMatch(matcher) => {
            let place = place.field("list_match");
            let list_matcher::MatchPattern::OneOf(element) =
                place.field("match_pattern").need(matcher.match_pattern.as_ref())?;
            ValueMatch::ListWith(Box::new(value(&place.field("one_of"), element)?))
        }
        MatchPattern::OrMatch(matcher) => {
            ValueMatch::Any(place.field("or_match").each("value_matchers", &matcher.value_matchers, value)?)
        }
    })
}

fn number(place: &Place<'_>, matcher: &wire::DoubleMatcher) -> Result<ValueMatch, Refused> {
    Ok(match place.field("match_pattern").need(matcher.match_pattern.as_ref())? {
        double_matcher::MatchPattern::Exact(number) => ValueMatch::Number(*number),
        double_matcher::MatchPattern::Range(range) => ValueMatch::NumberRange(range.start, range.end),
    })
}
