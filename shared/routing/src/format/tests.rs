//! What formats read and write.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Knows what is told, by the operator as it is displayed.
struct Told(HashMap<&'static str, &'static str>);

impl Values for Told {
    fn value(&self, command: &Command) -> Option<Cow<'_, str>> {
        let of = |text: &str| self.0.get(text).map(|value| Cow::Borrowed(*value));
        match command {
            Command::Req(names) => names.find(|name| of(name)),
            _ => of(&command.to_string()),
        }
    }

    fn typed(&self, command: &Command) -> Option<Value> {
        let value = self.value(command)?;
        match command {
            Command::DynamicMetadata(path) => {
                Some(json!({ "of": path.path.last().map(|key| format!("{key}={value}")) }))
            }
            _ if command.is_number() => value.parse::<u64>().ok().map(Into::into),
            _ => Some(value.into_owned().into()),
        }
    }
}

/// Has the trait's own idea of types.
struct Plain(Told);

impl Values for Plain {
    fn value(&self, command: &Command) -> Option<Cow<'_, str>> {
        self.0.value(command)
    }
}

fn told<const N: usize>(values: [(&'static str, &'static str); N]) -> Told {
    Told(HashMap::from(values))
}

fn write(format: &str, values: &Told) -> [String; 2] {
    let format = Format::parse(format).unwrap();
    [format.write(values), format.write_log(values)]
}

fn why(format: &str) -> String {
    Format::parse(format).unwrap_err().to_string()
}

#[test]
fn operators_are_filled_in() {
    let values = told([("PROTOCOL", "HTTP/1.1"), (":path", "/a")]);
    assert_eq!(write("%REQ(:PATH)% [%PROTOCOL%] 100%%", &values)[0], "/a [HTTP/1.1] 100%");
    assert_eq!(write("", &values), ["", ""]);
}

#[test]
fn what_is_missing_is_empty_or_a_dash() {
    assert_eq!(write("<%PROTOCOL%>", &told([])), ["<>", "<->"]);
    assert_eq!(write("<%PROTOCOL%>", &told([("PROTOCOL", "")])), ["<>", "<>"]);
}

#[test]
fn the_second_header_is_for_want_of_the_first() {
    let values = told([(":path", "/new"), ("x-envoy-original-path", "/old"), ("empty", "")]);
    assert_eq!(write("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", &values)[0], "/old");
    assert_eq!(write("%REQ(X-Other?:Path)%", &values)[0], "/new");
    assert_eq!(write("%REQ(EMPTY?:PATH)%", &values)[0], "");
    assert_eq!(write("%REQ(?:PATH)%", &values)[0], "/new");
}

#[test]
fn what_is_too_long_is_cut_between_characters() {
    let values = told([("a", "abcdé")]);
    let of = |length: usize| write(&format!("%REQ(A):{length}%"), &values)[0].clone();
    assert_eq!([of(0), of(2), of(4), of(5), of(6), of(9)], ["", "ab", "abcd", "abcd", "abcdé", "abcdé"]);
}

#[test]
fn spaces_are_replaced_in_details() {
    let values = told([
        ("RESPONSE_CODE_DETAILS", "a\tb c"),
        ("RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)", "a b"),
        ("UPSTREAM_TRANSPORT_FAILURE_REASON", "TLS error"),
        ("CONNECTION_TERMINATION_DETAILS", "a b"),
    ]);
    assert_eq!(write("%RESPONSE_CODE_DETAILS%", &values)[1], "a_b_c");
    assert_eq!(write("%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", &values)[1], "a b");
    assert_eq!(write("%UPSTREAM_TRANSPORT_FAILURE_REASON%", &values)[1], "TLS_error");
    assert_eq!(write("%CONNECTION_TERMINATION_DETAILS%", &values)[1], "a b");
}

#[test]
fn arguments_are_told_apart() {
    let command = |text: &str| match Format::parse(text).unwrap().0.as_slice() {
        [Piece::Operator { command, .. }] => command.clone(),
        other => panic!("{other:?}"),
    };
    let path =
        |keys: &[&str]| MetadataPath { filter: "ns".into(), path: keys.iter().map(|key| (*key).into()).collect() };
    assert_eq!(command("%DYNAMIC_METADATA(ns:a:b)%"), Command::DynamicMetadata(path(&["a", "b"])));
    assert_eq!(command("%CLUSTER_METADATA(ns)%"), Command::ClusterMetadata(path(&[])));
    assert_eq!(command("%UPSTREAM_METADATA(ns:)%"), Command::UpstreamMetadata(path(&[""])));
    let state = |form| Command::FilterState("key".into(), form);
    assert_eq!(command("%FILTER_STATE(key)%"), state(FilterStateForm::Typed));
    assert_eq!(command("%FILTER_STATE(key:PLAIN):4%"), state(FilterStateForm::Plain));
    assert_eq!(command("%FILTER_STATE(key:FIELD:f)%"), state(FilterStateForm::Field("f".into())));
    assert_eq!(command("%START_TIME%"), Command::StartTime(None));
    assert_eq!(command("%START_TIME(%Y(%m).%3f)%"), Command::StartTime(Some("%Y(%m).%3f".into())));
}

#[test]
fn the_log_format_of_istio_is_read_and_given_back() {
    let text = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
        %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
        \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
        %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
        \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
        %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
        %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";
    let given_back = Format::parse(text).unwrap().to_string();
    assert_eq!(given_back.to_ascii_uppercase(), text.to_ascii_uppercase());
}

#[test]
fn what_is_no_format_is_refused_with_where_and_why() {
    let error = Format::parse("a %%%FOO% %BAR%").unwrap_err();
    assert_eq!((error.operator.as_str(), error.position), ("FOO", 4));
    assert_eq!(error.to_string(), "\"FOO\" at byte 4 of a format is unknown");
    for (text, part) in [
        ("%", "is malformed"),
        ("%REQ(a", "is malformed"),
        ("%REQ(a\n)%", "is malformed"),
        ("%req(a)%", "is malformed"),
        ("%REQ(a):%", "is malformed"),
        ("%REQ(a):x%", "is malformed"),
        ("%REQ(a):99999999999999999999999%", "too great a length"),
        ("%REQ%", "needs parameters"),
        ("%REQ()%", "needs parameters"),
        ("%REQ(a?b?c)%", "more than one alternative"),
        ("%REQ(a b)%", "names no header"),
        ("%REQ(a?b:)%", "names no header"),
        ("%PROTOCOL(a)%", "takes no parameters"),
        ("%PROTOCOL:3%", "takes no length"),
        ("%START_TIME(%s):3%", "takes no length"),
        ("%START_TIME(%Y%-5On)%", "line break"),
        ("%CLUSTER_METADATA(a):3%", "takes no length"),
        ("%DYNAMIC_METADATA%", "needs parameters"),
        ("%FILTER_STATE%", "needs a key"),
        ("%FILTER_STATE(a:JSON)%", "none of PLAIN, TYPED and FIELD"),
        ("%FILTER_STATE(a:FIELD)%", "needs a field"),
        ("%FILTER_STATE(a:PLAIN:f)%", "takes no field"),
    ] {
        assert!(why(text).contains(part), "{text}: {}", why(text));
    }
}

#[test]
fn fields_of_json_keep_the_types_of_operators() {
    let format = json!({
        "status": "%RESPONSE_CODE%", "path": "%REQ(:PATH):2%", "both": "%RESPONSE_CODE% %REQ(:PATH)%",
        "fixed": "x", "percent": "1%%", "number": 1.5, "null": null, "is": true,
        "missing": "%PROTOCOL%", "half": "%PROTOCOL%!", "meta": "%DYNAMIC_METADATA(a:b)%",
        "nested": { "b": ["%RESPONSE_CODE%", "%PROTOCOL%"], "a": { "missing": "%PROTOCOL%" } },
    });
    let format = JsonFormat::parse(format.as_object().unwrap()).unwrap();
    let values = told([("RESPONSE_CODE", "200"), (":path", "/abc"), ("DYNAMIC_METADATA(a:b)", "1")]);
    let log = json!({
        "both": "200 /abc", "fixed": "x", "half": "-!", "is": true, "meta": { "of": "b=1" }, "missing": null,
        "nested": { "a": { "missing": null }, "b": [200, null] }, "null": null, "number": 1.5, "path": "/a",
        "percent": "1%", "status": 200,
    });
    // As texts, since the order of fields counts.
    assert_eq!(format.write_log(&values).to_string(), log.to_string());
    let sparse = json!({
        "both": "200 /abc", "fixed": "x", "half": "!", "is": true, "meta": { "of": "b=1" },
        "nested": { "b": [200] }, "number": 1.5, "path": "/a", "percent": "1%", "status": 200,
    });
    assert_eq!(format.write(&values).to_string(), sparse.to_string());
    let wrong = json!({ "a": [{ "b": "%FOO%" }] });
    assert_eq!(JsonFormat::parse(wrong.as_object().unwrap()).unwrap_err().operator, "FOO");
}

#[test]
fn counts_are_numbers_unless_told_otherwise() {
    let format = json!({ "a": "%DURATION%", "b": "%BYTES_SENT%", "c": "%ROUTE_NAME%", "d": "%DOWNSTREAM_LOCAL_PORT%" });
    let values = Plain(told([("DURATION", "5"), ("BYTES_SENT", "many"), ("ROUTE_NAME", "7")]));
    let log = JsonFormat::parse(format.as_object().unwrap()).unwrap().write_log(&values);
    assert_eq!(log, json!({ "a": 5, "b": "many", "c": "7", "d": null }));
}

fn operator() -> impl Strategy<Value = String> {
    let header = "(REQ|RESP|TRAILER|REQ_WITHOUT_QUERY)\\(:?[a-z-]{1,5}(\\?[a-z]{1,3})?\\)(:[1-9][0-9]?)?";
    let other =
        "PROTOCOL|DURATION|RESPONSE_CODE_DETAILS(\\(ALLOW_WHITESPACES\\))?|START_TIME(\\(%[A-Z)(:]{1,4}[a-z]\\))?";
    let metadata = "DYNAMIC_METADATA\\([a-z.]{1,3}(:[a-z]{0,2}){0,3}\\)(:[1-9])?|FILTER_STATE\\([a-z]:(PLAIN|TYPED|FIELD:[a-z])\\)";
    prop_oneof![header, other, metadata].prop_map(|operator| format!("%{operator}%"))
}

proptest! {
    #[test]
    fn a_format_is_given_back_as_it_was_read(pieces in prop::collection::vec(prop_oneof!["([a-zé ):(\n]|%%){0,4}", operator()], 0..6)) {
        let text = pieces.concat();
        prop_assert_eq!(Format::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn whatever_is_a_format_is_the_same_when_read_again(text in "[%A-ERQS(a?:1)]{0,12}") {
        if let Ok(format) = Format::parse(&text) {
            prop_assert_eq!(Format::parse(&format.to_string()).unwrap(), format);
        }
    }
}
