//! The plugin's way to the Kubernetes API: that of the agent's own pod, as a file on the host.

use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

/// Where every pod finds its account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The kubeconfig with `token`, or else that of the agent's pod as it is now. It is JSON, which is YAML.
///
/// # Errors
/// The account's files cannot be read.
pub(super) fn text(api: &str, token: Option<String>) -> io::Result<String> {
    let account = Path::new(ACCOUNT);
    let token = match token {
        Some(token) => token,
        None => std::fs::read_to_string(account.join("token"))?,
    };
    let authority = std::fs::read(account.join("ca.crt"))?;
    Ok(made(api, token.trim(), &authority))
}

fn made(api: &str, token: &str, authority: &[u8]) -> String {
    let authority = BASE64.encode(authority);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "node",
        "clusters": [{"name": "node", "cluster": {"server": api, "certificate-authority-data": authority}}],
        "users": [{"name": "node", "user": {"token": token}}],
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": "node"}}],
    });
    format!("{kubeconfig}\n")
}

#[cfg(test)]
mod tests {
    use kube::config::Kubeconfig;

    use super::*;

    #[test]
    fn it_is_a_kubeconfig() {
        let text = made("https://10.96.0.1:443", "secret", b"PEM");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k");
        std::fs::write(&path, text).unwrap();
        let read = Kubeconfig::read_from(&path).unwrap();
        let cluster = read.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://10.96.0.1:443"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("UEVN"));
    }
}
