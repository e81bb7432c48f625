//! Input that no decent client sends.

use serde_json::{Value, json};

use crate::support::Lab;

const JSON: (&str, &str) = ("Content-Type", "application/json");
const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

/// The server still answers, and still has what it had.
async fn lives(lab: &Lab) {
    assert_eq!(lab.call("GET", "/api/v1/namespaces/shop", &Value::Null).await.0, 200);
}

#[tokio::test]
async fn bodies_that_are_not_what_they_say_are_refused() {
    let lab = Lab::start();
    let deep = "[".repeat(100_000);
    let yaml_bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                     d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n";
    for (media, body) in [
        ("application/json", &b""[..]),
        ("application/json", b"{"),
        ("application/json", b"\xff\xfe"),
        ("application/json", b"[]"),
        ("application/json", b"null"),
        ("application/json", deep.as_bytes()),
        ("application/yaml", b"\xff"),
        ("application/yaml", b"a: [1"),
        ("application/yaml", b"--- {}\n--- {}\n"),
        ("application/yaml", yaml_bomb.as_bytes()),
        ("application/vnd.kubernetes.protobuf", b"k8s"),
        ("application/vnd.kubernetes.protobuf", b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ("application/vnd.kubernetes.protobuf", b"k8s\0\x0a\x0d\x0a\x02v1\x12\x07Unknown"),
        ("application/cbor", b"\xd9\xd9\xf7"),
        ("text/plain", b"hello"),
    ] {
        let (status, answer) = lab.send("POST", MAPS, &[("Content-Type", media)], body).await;
        assert!([400, 415].contains(&status), "{media} {:?}: {status} {answer}", &body[..body.len().min(20)]);
        assert_eq!(answer["kind"], "Status");
    }
    lives(&lab).await;
    lab.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let lab = Lab::start();
    let large = vec![b' '; 3 * 1024 * 1024 + 1];
    let (status, _) = lab.send("POST", MAPS, &[JSON], &large).await;
    assert_eq!(status, 413);
    lives(&lab).await;
    lab.stop().await;
}

#[tokio::test]
async fn objects_of_every_kind_with_fields_of_wrong_types_are_refused_without_harm() {
    let lab = Lab::start();
    let (_, groups) = lab.call("GET", "/apis", &Value::Null).await;
    let mut roots = vec!["/api/v1".to_owned()];
    for group in groups["groups"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            roots.push(format!("/apis/{}", version["groupVersion"].as_str().unwrap()));
        }
    }
    let junk =
        [json!(1), json!("x"), json!([]), json!([null, {}]), json!({"a": {"b": [[]]}}), json!(true), json!(-1e300)];
    let mut tried = 0;
    for root in roots {
        let (_, list) = lab.call("GET", &root, &Value::Null).await;
        let resources = list["resources"].as_array().unwrap();
        for resource in resources.iter().filter(|resource| !resource["name"].as_str().unwrap().contains('/')) {
            let scope = if resource["namespaced"] == true { "/namespaces/shop" } else { "" };
            let path = format!("{root}{scope}/{}", resource["name"].as_str().unwrap());
            for value in &junk {
                for field in ["metadata", "spec", "status", "data"] {
                    let (status, answer) = lab.call("POST", &path, &json!({field: value})).await;
                    assert!((200..500).contains(&status), "{path} {field} {value}: {status} {answer}");
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 500, "{tried}");
    lives(&lab).await;
    lab.stop().await;
}

#[tokio::test]
async fn patches_with_parts_of_wrong_types_are_refused_without_harm() {
    let lab = Lab::start();
    let spec = json!({"containers": [{"name": "a", "image": "b"}]});
    lab.call("POST", "/api/v1/namespaces/shop/pods", &json!({"metadata": {"name": "p"}, "spec": spec})).await;
    for media in ["merge-patch+json", "strategic-merge-patch+json", "json-patch+json"] {
        let media = format!("application/{media}");
        for patch in [
            r#"null"#,
            r#"[]"#,
            r#"{"metadata":null}"#,
            r#"{"metadata":{"labels":[]}}"#,
            r#"{"spec":{"containers":{"$patch":"delete"}}}"#,
            r#"{"spec":{"containers":[null,1,"x",[]]}}"#,
            r#"{"spec":{"containers":[{"$patch":"replace"}]}}"#,
            r#"{"$patch":"replace"}"#,
            r#"{"$retainKeys":["x"],"$setElementOrder/spec":7}"#,
            r#"{"spec":{"$setElementOrder/containers":{"a":1}}}"#,
            r#"{"kind":"Service","apiVersion":"v7"}"#,
            r#"[{"op":"copy","from":"","path":"/metadata/annotations"}]"#,
            r#"[{"op":"remove","path":"/metadata"}]"#,
            r#"[{"op":"replace","path":"","value":[]}]"#,
            r#"[{"op":"add","path":"/spec/containers/9999999999999999999999","value":1}]"#,
        ] {
            let path = "/api/v1/namespaces/shop/pods/p";
            let (status, answer) = lab.send("PATCH", path, &[("Content-Type", &media)], patch.as_bytes()).await;
            assert!((200..500).contains(&status), "{media} {patch}: {status} {answer}");
        }
    }
    let (_, pod) = lab.call("GET", "/api/v1/namespaces/shop/pods/p", &Value::Null).await;
    assert_eq!(
        (&pod["kind"], &pod["metadata"]["name"], &pod["spec"]["containers"][0]["name"]),
        (&json!("Pod"), &json!("p"), &json!("a"))
    );
    lab.stop().await;
}

#[tokio::test]
async fn queries_and_paths_without_sense_are_refused_without_harm() {
    let lab = Lab::start();
    for path in [
        "/api/v1/pods?labelSelector=%",
        "/api/v1/pods?labelSelector=a%20in%20(",
        "/api/v1/pods?fieldSelector=spec.containers%3Dx",
        "/api/v1/pods?watch=1&resourceVersion=-1",
        "/api/v1/pods?watch=1&timeoutSeconds=x",
        "/api/v1/pods?watch=1&timeoutSeconds=99999999999999999999",
        "/api/v1/namespaces/..%2f..%2f/pods",
        "/api/v1/namespaces/%00/pods/%ff",
        "//////",
        "/api/v1/namespaces/shop/pods/p/log?tailLines=x",
    ] {
        let (status, answer) = lab.call("GET", path, &Value::Null).await;
        assert!((200..500).contains(&status), "{path}: {status} {answer}");
    }
    for (method, path) in [("PUT", MAPS), ("POST", "/api/v1/configmaps"), ("TRACE", MAPS), ("POST", "/version")] {
        let (status, _) = lab.call(method, path, &json!({})).await;
        assert!([200, 404, 405].contains(&status), "{method} {path}: {status}");
    }
    lives(&lab).await;
    lab.stop().await;
}
