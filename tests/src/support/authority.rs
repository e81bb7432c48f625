//! Certificates for programs that end tunnels themselves: asked for at the mesh's authority with openssl and grpcurl,
//! so that nothing of the mesh's own is on the asking side.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;

use super::Lab;
use super::lab::{Place, SHOP, SYSTEM};
use super::program::{output, path_of};

/// The name that the control plane's own certificate has.
const AUTHORITY: &str = "aquifer.aquifer-system.svc";

/// Where the wire's definitions are.
const DEFINITIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");

/// A folder with `chain.pem`, `key.pem` and `root.pem`.
#[derive(Debug)]
pub(crate) struct Credentials {
    folder: tempfile::TempDir,
}

impl Credentials {
    /// Credentials of a ServiceAccount of the shop, which is made first.
    pub(crate) async fn issue(lab: &Lab, account: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let object = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": SHOP},
        });
        lab.apply(&object.to_string()).await;
        let root = lab.get(&format!("configmap istio-ca-root-cert -n {SHOP}")).await;
        fs::write(folder.path().join("root.pem"), root["data"]["root-cert.pem"].as_str().unwrap()).unwrap();
        let request = request(folder.path(), account).await;
        let token = token(lab, account).await;
        let chain = create_certificate(lab, folder.path(), &token, &request).await;
        fs::write(folder.path().join("chain.pem"), chain).unwrap();
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Makes a key, and a request that names the identity; its text.
async fn request(folder: &Path, account: &str) -> String {
    let name = format!("subjectAltName=URI:spiffe://cluster.local/ns/{SHOP}/sa/{account}");
    let mut command = Command::new("openssl");
    command.current_dir(folder);
    command.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/"]);
    command.args(["-keyout", "key.pem", "-out", "request.pem", "-addext", &name]);
    let made = output(command, "openssl req").await;
    assert!(made.status.success(), "{made:?}");
    fs::read_to_string(folder.join("request.pem")).unwrap()
}

async fn token(lab: &Lab, account: &str) -> String {
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": ["istio-ca"], "expirationSeconds": 3600},
    });
    let words = format!("create --raw /api/v1/namespaces/{SHOP}/serviceaccounts/{account}/token -f -");
    let answer: Value = serde_json::from_str(&lab.feed(&words, &request.to_string()).await).unwrap();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// The chain without the root.
async fn create_certificate(lab: &Lab, folder: &Path, token: &str, request: &str) -> String {
    let service = lab.get(&format!("service aquifer -n {SYSTEM}")).await;
    let address = format!("{}:15012", service["spec"]["clusterIP"].as_str().unwrap());
    let body = json!({"csr": request, "validityDuration": "3600"}).to_string();
    let (root, bearer) = (folder.join("root.pem").display().to_string(), format!("authorization: Bearer {token}"));
    let program = path_of("grpcurl");
    let tls = ["-cacert", &root, "-authority", AUTHORITY, "-max-time", "20"];
    let message = ["-import-path", DEFINITIONS, "-proto", "ca.proto", "-H", &bearer, "-d", &body];
    let call = [&address, "istio.v1.auth.IstioCertificateService/CreateCertificate"];
    let words = [&[program.as_str()], &tls[..], &message[..], &call[..]].concat();
    let answer: Value = serde_json::from_str(&lab.must_exec(Place::Node("node-1"), &words).await).unwrap();
    let chain: Vec<&str> = answer["certChain"].as_array().unwrap().iter().map(|pem| pem.as_str().unwrap()).collect();
    let (_root, rest) = chain.split_last().unwrap();
    assert!(!rest.is_empty(), "a root alone is no certificate: {answer}");
    rest.iter().map(|pem| format!("{}\n", pem.trim_end())).collect()
}
