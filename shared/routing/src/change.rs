//! What is changed about headers.

use std::borrow::Cow;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};

use crate::{Command, Format, Values};

/// What is changed about the headers of requests and of responses.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// What is changed about requests.
    pub request: HeaderChanges,
    /// What is changed about responses.
    pub response: HeaderChanges,
}

/// Which message something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The request.
    Request,
    /// Its response.
    Response,
}

/// What is changed about the headers of a message: some are removed first, then others are added.
///
/// Pseudo headers and `host` are not among them; a route changes those otherwise.
#[derive(Debug, Clone, Default)]
pub struct HeaderChanges {
    add: Vec<HeaderAddition>,
    remove: Vec<HeaderName>,
}

/// A header that is added, as Envoy's [`HeaderValueOption`] says it.
///
/// [`HeaderValueOption`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/core/v3/base.proto#config-core-v3-headervalueoption
#[derive(Debug, Clone)]
pub struct HeaderAddition {
    name: HeaderName,
    value: Format,
    append: AppendAction,
    keeps_empty: bool,
}

/// What happens to a header that is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AppendAction {
    /// It stays, and another value is added.
    #[default]
    AppendIfExistsOrAdd,
    /// It stays, and nothing is added.
    AddIfAbsent,
    /// It is replaced.
    OverwriteIfExistsOrAdd,
    /// It is replaced, and nothing is added where there is none.
    OverwriteIfExists,
}

/// A header that cannot be changed like others: a pseudo header, `host`, or what is no header's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header {0:?} cannot be changed")]
pub struct FixedHeader(Box<str>);

impl Changes {
    /// Changes the headers of one side, where formats ask `values`, but not for the headers of that side.
    ///
    /// Those are taken as they are when their turn comes: without what is removed here, and with what was added before.
    /// Pseudo headers are asked of `values`.
    /// What makes no legal value of a header is not added.
    pub fn apply(&self, side: Side, headers: &mut HeaderMap, values: &impl Values) {
        match side {
            Side::Request => self.request.apply(side, headers, values),
            Side::Response => self.response.apply(side, headers, values),
        }
    }
}

impl HeaderChanges {
    /// Removes the headers called `remove`, then adds others.
    ///
    /// # Errors
    /// If a header cannot be removed.
    pub fn new<'a>(add: Vec<HeaderAddition>, remove: impl IntoIterator<Item = &'a str>) -> Result<Self, FixedHeader> {
        let remove = remove.into_iter().map(changeable).collect::<Result<_, _>>()?;
        Ok(Self { add, remove })
    }

    fn apply(&self, side: Side, headers: &mut HeaderMap, values: &impl Values) {
        for name in &self.remove {
            headers.remove(name);
        }
        // All values are made before any is set, so that none depends on another one.
        let current = Current { side, headers, others: values };
        let made = self.add.iter().filter_map(|addition| Some((addition, addition.value_for(&current)?)));
        let (appended, replaced): (Vec<_>, Vec<_>) = made.partition(|(addition, _)| addition.append.keeps());
        for (addition, value) in replaced {
            headers.insert(addition.name.clone(), value);
        }
        for (addition, value) in appended {
            headers.append(addition.name.clone(), value);
        }
    }
}

impl HeaderAddition {
    /// Adds the header `name`; where its value comes out empty, only if `keeps_empty`.
    ///
    /// # Errors
    /// If a header of this name cannot be added.
    pub fn new(name: &str, value: Format, append: AppendAction, keeps_empty: bool) -> Result<Self, FixedHeader> {
        Ok(Self { name: changeable(name)?, value, append, keeps_empty })
    }

    /// The value to set; `None` where nothing is to be.
    fn value_for(&self, current: &Current<'_, impl Values>) -> Option<HeaderValue> {
        let is_due = match self.append {
            AppendAction::AppendIfExistsOrAdd | AppendAction::OverwriteIfExistsOrAdd => true,
            AppendAction::AddIfAbsent => !current.headers.contains_key(&self.name),
            AppendAction::OverwriteIfExists => current.headers.contains_key(&self.name),
        };
        let value = if is_due { self.value.write(current) } else { return None };
        if value.is_empty() && !self.keeps_empty { None } else { HeaderValue::try_from(value).ok() }
    }
}

impl AppendAction {
    /// Whether values that are there stay.
    fn keeps(self) -> bool {
        matches!(self, Self::AppendIfExistsOrAdd | Self::AddIfAbsent)
    }
}

/// What formats can ask for while headers are changed.
struct Current<'a, V> {
    side: Side,
    headers: &'a HeaderMap,
    others: &'a V,
}

impl<V: Values> Values for Current<'_, V> {
    fn value(&self, command: &Command) -> Option<Cow<'_, str>> {
        let ((Side::Request, Command::Req(names)) | (Side::Response, Command::Resp(names))) = (self.side, command)
        else {
            return self.others.value(command);
        };
        let mut asks_others = false;
        let found = names.find(|name| {
            asks_others |= name.starts_with(':') || name == HOST;
            self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()))
        });
        if found.is_none() && asks_others { self.others.value(command) } else { found }
    }
}

fn changeable(name: &str) -> Result<HeaderName, FixedHeader> {
    let parsed = HeaderName::try_from(name).ok().filter(|name| name != HOST);
    parsed.ok_or_else(|| FixedHeader(name.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers everything with this.
    struct Always(&'static str);

    impl Values for Always {
        fn value(&self, _: &Command) -> Option<Cow<'_, str>> {
            Some(Cow::Borrowed(self.0))
        }
    }

    fn add(name: &str, value: &str, append: AppendAction) -> HeaderAddition {
        HeaderAddition::new(name, Format::parse(value).unwrap(), append, false).unwrap()
    }

    fn changed(
        add: Vec<HeaderAddition>,
        remove: &[&str],
        before: &[(&'static str, &str)],
        found: &'static str,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in before {
            headers.append(*name, value.parse().unwrap());
        }
        let request = HeaderChanges::new(add, remove.iter().copied()).unwrap();
        let changes = Changes { request, ..Changes::default() };
        changes.apply(Side::Request, &mut headers, &Always(found));
        headers
    }

    fn all<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn what_is_there_is_kept_or_replaced_as_asked() {
        use AppendAction::{AddIfAbsent, AppendIfExistsOrAdd, OverwriteIfExists, OverwriteIfExistsOrAdd};
        let of = |append, before: &[(&'static str, &str)]| {
            all(&changed(vec![add("a", "new", append)], &[], before, ""), "a").join(" ")
        };
        let before = [("a", "1"), ("a", "2")];
        assert_eq!(of(AppendIfExistsOrAdd, &before), "1 2 new");
        assert_eq!(of(AddIfAbsent, &before), "1 2");
        assert_eq!(of(OverwriteIfExistsOrAdd, &before), "new");
        assert_eq!(of(OverwriteIfExists, &before), "new");
        assert_eq!(of(AppendIfExistsOrAdd, &[]), "new");
        assert_eq!(of(AddIfAbsent, &[]), "new");
        assert_eq!(of(OverwriteIfExistsOrAdd, &[]), "new");
        assert_eq!(of(OverwriteIfExists, &[]), "");
        assert_eq!(AppendAction::default(), AppendIfExistsOrAdd);
    }

    #[test]
    fn headers_are_removed_before_others_are_added() {
        let additions = vec![add("A", "new", AppendAction::AppendIfExistsOrAdd)];
        let headers = changed(additions, &["A", "B"], &[("a", "1"), ("a", "2"), ("b", "3"), ("c", "4")], "");
        assert_eq!(all(&headers, "a"), ["new"]);
        assert_eq!(all(&headers, "b"), [""; 0]);
        assert_eq!(all(&headers, "c"), ["4"]);
    }

    #[test]
    fn headers_are_replaced_before_values_are_appended() {
        let additions = vec![
            add("a", "1", AppendAction::AppendIfExistsOrAdd),
            add("a", "2", AppendAction::AddIfAbsent),
            add("a", "3", AppendAction::OverwriteIfExistsOrAdd),
        ];
        assert_eq!(all(&changed(additions, &[], &[], ""), "a"), ["3", "1", "2"]);
    }

    #[test]
    fn an_empty_value_is_dropped_unless_it_is_to_be_kept() {
        let format = || Format::parse("%ROUTE_NAME%").unwrap();
        let of = |keeps_empty| {
            let addition =
                HeaderAddition::new("a", format(), AppendAction::OverwriteIfExistsOrAdd, keeps_empty).unwrap();
            changed(vec![addition], &[], &[("a", "old")], "")["a"].clone()
        };
        assert_eq!(of(false), "old");
        assert_eq!(of(true), "");
    }

    #[test]
    fn a_value_that_is_not_legal_is_dropped() {
        let addition = || vec![add("a", "x%ROUTE_NAME%", AppendAction::OverwriteIfExistsOrAdd)];
        assert_eq!(changed(addition(), &[], &[("a", "old")], "\r\nb: c")["a"], "old");
        assert_eq!(changed(addition(), &[], &[("a", "old")], "é")["a"].as_bytes(), "xé".as_bytes());
    }

    #[test]
    fn the_headers_that_are_changed_are_asked_for_as_they_are() {
        let add = |name, value| add(name, value, AppendAction::default());
        let additions = || {
            vec![
                add("b", "%REQ(a)%"),
                add("c", "%REQ(gone)%"),
                add("d", "%REQ(b)%"),
                add("e", "%REQ(none?:path)%"),
                add("f", "%RESP(a)%"),
            ]
        };
        let headers = changed(additions(), &["gone"], &[("a", "1"), ("gone", "2")], "other");
        assert_eq!(all(&headers, "b"), ["1"]);
        assert_eq!(all(&headers, "c"), [""; 0]);
        assert_eq!(all(&headers, "d"), [""; 0], "values are made before any is set");
        assert_eq!(all(&headers, "e"), ["other"]);
        assert_eq!(all(&headers, "f"), ["other"]);
        let response = HeaderChanges::new(additions(), []).unwrap();
        let mut headers = HeaderMap::from_iter([(HeaderName::from_static("a"), HeaderValue::from_static("1"))]);
        Changes { response, ..Changes::default() }.apply(Side::Response, &mut headers, &Always("other"));
        assert_eq!(all(&headers, "b"), ["other"]);
        assert_eq!(all(&headers, "f"), ["1"]);
    }

    #[test]
    fn some_headers_cannot_be_changed() {
        for name in ["host", "Host", ":path", ":authority", "", "a b"] {
            let refused = FixedHeader(name.into());
            assert_eq!(HeaderChanges::new(Vec::new(), [name]).unwrap_err(), refused);
            let addition = HeaderAddition::new(name, Format::parse("x").unwrap(), AppendAction::default(), false);
            assert_eq!(addition.unwrap_err(), refused);
        }
        assert_eq!(FixedHeader(":path".into()).to_string(), "header \":path\" cannot be changed");
    }
}
