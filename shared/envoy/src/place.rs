//! Where in a resource something is that cannot be honoured.

use std::fmt::{self, Debug, Display};

/// Why a resource is refused: what cannot be honoured, and where it is.
///
/// Shown as `virtual_hosts[0].routes[2].match.runtime_fraction: found 7 of 0, expected …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct Refused {
    /// The field, from the resource down.
    pub place: String,
    /// What was found there, and what is expected.
    pub why: String,
}

/// A place in a resource, on the way down: a field of a place, or the resource itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Element(&'a str, usize),
    Key(&'a str, &'a str),
}

impl<'a> Place<'a> {
    /// A field of the resource.
    pub(crate) fn root(field: &'a str) -> Self {
        Self { parent: None, step: Step::Field(field) }
    }

    /// A field of what is here.
    pub(crate) fn field(&'a self, field: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Field(field) }
    }

    /// An element of a list in what is here.
    pub(crate) fn element(&'a self, field: &'a str, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Element(field, index) }
    }

    /// A value of a map in what is here.
    pub(crate) fn key(&'a self, field: &'a str, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(field, key) }
    }

    /// What is here cannot be honoured.
    pub(crate) fn refuse(&self, why: impl Display) -> Refused {
        Refused { place: self.to_string(), why: why.to_string() }
    }

    /// What is here is not what it should be.
    pub(crate) fn refuse_found(&self, found: impl Debug, expected: &str) -> Refused {
        self.refuse(format_args!("found {found:?}, expected {expected}"))
    }

    /// What has to be here is missing.
    pub(crate) fn need<T>(&self, value: Option<T>) -> Result<T, Refused> {
        value.ok_or_else(|| self.refuse("is missing"))
    }

    /// Nothing may be here: it would change what happens to a request, and nobody would do it.
    pub(crate) fn need_unset<T: Default + PartialEq>(&self, value: &T) -> Result<(), Refused> {
        if *value == T::default() { Ok(()) } else { Err(self.refuse("is not supported")) }
    }

    /// Reads each element of a list here.
    pub(crate) fn each<T, U>(
        &self,
        field: &str,
        list: &[T],
        read: impl Fn(&Place<'_>, &T) -> Result<U, Refused>,
    ) -> Result<Vec<U>, Refused> {
        list.iter().enumerate().map(|(index, element)| read(&self.element(field, index), element)).collect()
    }
}

impl Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        match self.step {
            Step::Field(field) => f.write_str(field),
            Step::Element(field, index) => write!(f, "{field}[{index}]"),
            Step::Key(field, key) => write!(f, "{field}[{key:?}]"),
        }
    }
}

/// Refuses each of these variables, named as fields of `place`, that is set.
///
/// A message is taken apart with all its fields named, so that one that is added to it later does not compile until somebody
/// has decided about it.
macro_rules! refuse_set {
    ($place:expr, $($field:ident),+ $(,)?) => {
        $( $place.field(stringify!($field)).need_unset($field)?; )+
    };
}
pub(crate) use refuse_set;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_from_the_resource_down() {
        let hosts = Place::root("virtual_hosts");
        let route = hosts.element("routes", 2);
        let filter = route.key("typed_per_filter_config", "envoy.filters.http.lua");
        assert_eq!(
            filter.refuse("is not supported").to_string(),
            "virtual_hosts.routes[2].typed_per_filter_config[\"envoy.filters.http.lua\"]: is not supported"
        );
        assert_eq!(route.refuse_found(7, "a name").why, "found 7, expected a name");
        assert_eq!(route.field("match").need::<u8>(None).unwrap_err().place, "virtual_hosts.routes[2].match");
    }

    #[test]
    fn what_is_set_and_not_honoured_is_refused() {
        fn read(timeout: &Option<u32>, name: &String) -> Result<(), Refused> {
            let place = Place::root("route");
            refuse_set!(place, timeout, name);
            Ok(())
        }
        assert_eq!(read(&None, &String::new()), Ok(()));
        assert_eq!(read(&Some(0), &String::new()).unwrap_err().to_string(), "route.timeout: is not supported");
        assert_eq!(read(&None, &"x".to_owned()).unwrap_err().to_string(), "route.name: is not supported");
    }
}
