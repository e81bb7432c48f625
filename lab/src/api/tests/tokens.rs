//! Tokens of ServiceAccounts.

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};

use super::*;
use crate::api::TokenRequest;

const OWN: &str = "https://kubernetes.default.svc.cluster.local";

fn request(audiences: &[&str], pod: Option<&Pod>) -> TokenRequest {
    let pod = pod.map(|pod| (pod.metadata.name.clone().unwrap(), pod.metadata.uid.clone().unwrap()));
    TokenRequest { audiences: audiences.iter().map(|&audience| audience.to_owned()).collect(), lifetime: None, pod }
}

fn review(server: &Server, token: &str, audiences: &[&str]) -> Value {
    server.core.review(&json!({"spec": {"token": token, "audiences": audiences}}))["status"].take()
}

#[test]
fn a_pods_token_names_the_account_and_the_pod() {
    let server = server();
    let client = server.client();
    let pod = client.create(&pod("cart", None)).unwrap();
    let account: ServiceAccount = client.fetch(Some("shop"), "default").unwrap();
    let token = client.create_token("shop", "default", &request(&["istio-ca"], Some(&pod))).unwrap();
    let status = review(&server, &token.token, &["other", "istio-ca"]);
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["istio-ca"])));
    let user = &status["user"];
    assert_eq!(user["username"], "system:serviceaccount:shop:default");
    assert_eq!(user["uid"], json!(account.metadata.uid));
    assert!(user["groups"].as_array().unwrap().contains(&json!("system:serviceaccounts:shop")), "{user}");
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"], json!(["cart"]));
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-uid"], json!([pod.metadata.uid]));

    // Made for another audience, it does not open the API server.
    assert!(server.core.authenticate(&token.token, &[]).is_err());
    assert_eq!(review(&server, &token.token, &[])["authenticated"], false);

    client.delete::<Pod>(Some("shop"), "cart", &DeleteOptions::default()).unwrap();
    let status = review(&server, &token.token, &["istio-ca"]);
    assert_eq!(
        (&status["authenticated"], status["error"].as_str().unwrap().contains("pod is gone")),
        (&json!(false), true)
    );
}

#[test]
fn a_token_without_audience_is_for_the_api_server() {
    let server = server();
    let token = server.client().create_token("shop", "default", &request(&[], None)).unwrap().token;
    let (caller, audiences) = server.core.authenticate(&token, &[]).unwrap();
    assert_eq!((caller.username.as_str(), audiences), ("system:serviceaccount:shop:default", vec![OWN.to_owned()]));
    server.client().delete::<ServiceAccount>(Some("shop"), "default", &DeleteOptions::default()).unwrap();
    assert_eq!(server.core.authenticate(&token, &[]).unwrap_err(), "its ServiceAccount is gone");
}

#[test]
fn the_admin_token_is_known_and_nothing_near_it() {
    let server = server();
    let admin = server.admin_token();
    assert!(server.core.authenticate(admin, &[]).unwrap().0.groups.contains(&"system:masters".to_owned()));
    for token in ["", ".", "..", "a.b.c", &admin[1..], &format!("{admin}x")] {
        assert!(server.core.authenticate(token, &[]).is_err(), "{token}");
    }
}

#[test]
fn a_forged_or_foreign_token_is_refused() {
    let (one, other) = (server(), server());
    let token = one.client().create_token("shop", "default", &request(&[], None)).unwrap().token;
    assert!(other.core.authenticate(&token, &[]).is_err());
    let parts: Vec<_> = token.split('.').collect();
    let admin = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, br#"{"sub":"admin"}"#);
    for forged in [format!("{}.{admin}.{}", parts[0], parts[2]), format!("{}.{}.", parts[0], parts[1])] {
        assert!(one.core.authenticate(&forged, &[]).is_err(), "{forged}");
    }
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let client = server().client();
    let pod = client.create(&pod("cart", None)).unwrap();
    client
        .apply_json(
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "shop", "name": "other"}}),
        )
        .unwrap();
    let short = TokenRequest { lifetime: Some(Duration::from_secs(10)), ..TokenRequest::default() };
    let reason = |account: &str, request: &TokenRequest| {
        client.create_token("shop", account, request).map(|token| token.token).unwrap_err().reason
    };
    assert_eq!(reason("default", &short), "Invalid");
    assert_eq!(reason("nobody", &request(&[], None)), "NotFound");
    assert_eq!(reason("other", &request(&[], Some(&pod))), "BadRequest");
    let stale = TokenRequest { pod: Some(("cart".into(), "old-uid".into())), ..TokenRequest::default() };
    assert_eq!(reason("default", &stale), "Conflict");
}
