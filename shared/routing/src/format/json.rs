//! Lines of access logs in JSON.

use serde_json::{Map, Value};

use super::{BadFormat, Format, Piece, Values};

/// An object with texts in which operators are filled in, as Envoy's [`json_format`] says it.
///
/// Its fields are written in the order of their names.
///
/// [`json_format`]: https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#format-dictionaries
#[derive(Debug, Clone, PartialEq)]
pub struct JsonFormat(Vec<(Box<str>, Part)>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Fixed(Value),
    Text(Format),
    Object(JsonFormat),
    List(Vec<Self>),
}

impl JsonFormat {
    /// Reads a format.
    ///
    /// # Errors
    /// If one of its texts is no format.
    pub fn parse(object: &Map<String, Value>) -> Result<Self, BadFormat> {
        let part = |(name, value): (&String, &Value)| Ok((name.as_str().into(), Part::parse(value)?));
        let mut parts: Vec<(Box<str>, Part)> = object.iter().map(part).collect::<Result<_, _>>()?;
        parts.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        Ok(Self(parts))
    }

    /// The object with what `values` say; what is missing is null, or `-` within a longer text.
    ///
    /// ```
    /// use std::borrow::Cow;
    ///
    /// use routing::{Command, JsonFormat, Values};
    /// use serde_json::json;
    ///
    /// struct Log;
    /// impl Values for Log {
    ///     fn value(&self, command: &Command) -> Option<Cow<'_, str>> {
    ///         (*command == Command::ResponseCode).then_some("200".into())
    ///     }
    /// }
    ///
    /// let format = json!({ "status": "%RESPONSE_CODE%", "route": "%ROUTE_NAME%", "line": "%RESPONSE_CODE% %ROUTE_NAME%" });
    /// let log = JsonFormat::parse(format.as_object().unwrap()).unwrap().write_log(&Log);
    /// assert_eq!(log, json!({ "line": "200 -", "route": null, "status": 200 }));
    /// ```
    #[must_use]
    pub fn write_log(&self, values: &impl Values) -> Value {
        let fields = self.0.iter();
        fields.map(|(name, part)| (name.to_string(), part.write_log(values))).collect::<Map<_, _>>().into()
    }

    /// The object with what `values` say, without what is missing, and without objects in it that would be empty.
    ///
    /// This is how it is written where empty values are to be left out.
    #[must_use]
    pub fn write(&self, values: &impl Values) -> Value {
        self.fields(values).into()
    }

    fn fields(&self, values: &impl Values) -> Map<String, Value> {
        self.0.iter().filter_map(|(name, part)| Some((name.to_string(), part.write(values)?))).collect()
    }
}

impl Part {
    fn parse(value: &Value) -> Result<Self, BadFormat> {
        Ok(match value {
            Value::String(text) if text.contains('%') => Self::Text(Format::parse(text)?),
            Value::Object(object) => Self::Object(JsonFormat::parse(object)?),
            Value::Array(list) => Self::List(list.iter().map(Self::parse).collect::<Result<_, _>>()?),
            fixed => Self::Fixed(fixed.clone()),
        })
    }

    fn write_log(&self, values: &impl Values) -> Value {
        match self {
            Self::Fixed(value) => value.clone(),
            Self::Text(format) => match format.0.as_slice() {
                [only] => only.typed(values).unwrap_or_default(),
                _ => format.write_log(values).into(),
            },
            Self::Object(object) => object.write_log(values),
            Self::List(list) => list.iter().map(|part| part.write_log(values)).collect::<Vec<_>>().into(),
        }
    }

    fn write(&self, values: &impl Values) -> Option<Value> {
        match self {
            Self::Fixed(value) => Some(value.clone()).filter(|value| !value.is_null()),
            Self::Text(format) => match format.0.as_slice() {
                [only] => only.typed(values).filter(|value| !value.is_null()),
                _ => Some(format.write(values).into()),
            },
            Self::Object(object) => Some(object.fields(values)).filter(|fields| !fields.is_empty()).map(Into::into),
            Self::List(list) => Some(list.iter().filter_map(|part| part.write(values)).collect::<Vec<_>>().into()),
        }
    }
}

impl Piece {
    fn typed(&self, values: &impl Values) -> Option<Value> {
        match self {
            Self::Text(text) => Some(text.to_string().into()),
            Self::Operator { command, max_length } => match values.typed(command)? {
                Value::String(text) => Some(command.tidy(text.into(), *max_length).into_owned().into()),
                value => Some(value),
            },
        }
    }
}
