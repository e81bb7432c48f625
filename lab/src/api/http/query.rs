//! The query of a request.

use crate::api::Status;
use crate::api::core::Write;
use crate::api::intake::FieldValidation;

/// Parameters in the order of the request.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| percent_decode(&text.replace('+', " "));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    /// The value of a parameter; empty without it.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// All values of a parameter that may be repeated, in their order.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(found, _)| found == name).map(|(_, value)| value.clone()).collect()
    }

    /// Whether a parameter is set. A bare name counts as true, as in Go.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.0.iter().any(|(found, value)| found == name && !["false", "0", "f", "False"].contains(&value.as_str()))
    }

    /// A number.
    ///
    /// # Errors
    /// `BadRequest` for anything but digits.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Status> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_invalid| {
                Status::bad_request(format!("invalid value {text:?} of {name}: it must be a number, 0 or more"))
            }),
        }
    }

    /// The resource version, if there is one.
    ///
    /// # Errors
    /// `BadRequest` for anything that is none of this server's.
    pub(super) fn revision(&self) -> Result<Option<u64>, Status> {
        match self.text("resourceVersion") {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_invalid| {
                Status::bad_request(format!("resourceVersion: Invalid value: {text:?}: it must be a number"))
            }),
        }
    }

    /// How a write is to be treated.
    ///
    /// # Errors
    /// `BadRequest` for values that do not exist.
    pub(super) fn write(&self) -> Result<Write, Status> {
        let validation = match self.text("fieldValidation") {
            "Strict" => FieldValidation::Strict,
            "Warn" | "" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            other => return Err(Status::bad_request(format!("fieldValidation: Unsupported value: {other:?}"))),
        };
        let is_dry_run = match self.text("dryRun") {
            "" => false,
            "All" => true,
            other => return Err(Status::bad_request(format!("dryRun: Unsupported value: {other:?}"))),
        };
        Ok(Write { validation, is_dry_run })
    }
}

/// Undoes percent encoding; what is not encoded well stays as it is.
pub(super) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|code| str::from_utf8(code).ok());
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            bytes.push(byte);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("labelSelector=app%3Dcart%2Ctier+in+%28a%29&watch=1&follow=false&bare&x=%zz%");
        assert_eq!(query.text("labelSelector"), "app=cart,tier in (a)");
        assert!(query.flag("watch") && query.flag("bare") && !query.flag("follow") && !query.flag("absent"));
        assert_eq!(query.text("x"), "%zz%");
        assert_eq!(Query::parse("command=echo&container=c&command=a+b").texts("command"), ["echo", "a b"]);
        assert!(Query::parse("timeoutSeconds=-1").number("timeoutSeconds").is_err());
    }
}
