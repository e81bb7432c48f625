//! Sets up the modes: which pods there are, where clients reach servers, and which processes stand between.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench::envoy::{self, Credentials, Reads, Service};
use bench::mode::Mode;
use bench::usage::{self, Process};
use k8s_openapi::api::core::v1::{Pod, Secret, Service as KubernetesService};
use kinds::labels::USE_WAYPOINT;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use lab::mesh::SYSTEM_NAMESPACE;
use serde_json::{Value, json};
use types::{Identity, TrustDomain};

use super::envoy::{Envoy, Instance};
use super::lab::{Client, Lab};
use super::objects::{self, AMBIENT, BYTES_PORT, CLIENT_NODE, HTTP_PORT, PLAIN, SERVER_NODE, SERVER_PORT, SIDECAR};
use crate::demo::cluster;

/// Pods are ready, and captured where they are to be, within this time.
const POD_DEADLINE: Duration = Duration::from_secs(20);

/// Where the control plane keeps its certificate authority.
const AUTHORITY: &str = "istio-ca-secret";

/// The clients and servers of a mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) client: Client,
    pub(crate) http: SocketAddr,
    pub(crate) bytes: SocketAddr,
    pub(crate) proxies: Vec<Process>,
    /// What shows that traffic is encrypted: a line with all these parts in the log of this node's proxy.
    pub(crate) proof: Option<(&'static str, Vec<String>)>,
}

/// Makes the pods of `mode`, unless another mode has made them, and says where they are.
pub(crate) async fn set_up(lab: &Lab, mode: Mode, envoy: Option<&mut Envoy>) -> Result<Place> {
    match (mode, envoy) {
        (Mode::None, _) => plain(lab, "server", SERVER_NODE).await,
        (Mode::NoneSameNode, _) => plain(lab, "near", CLIENT_NODE).await,
        (Mode::AmbientL4, _) => ambient(lab, "server", SERVER_NODE, &[CLIENT_NODE, SERVER_NODE]).await,
        (Mode::AmbientL4SameNode, _) => ambient(lab, "near", CLIENT_NODE, &[CLIENT_NODE]).await,
        (Mode::AmbientL7, Some(envoy)) => waypoint(lab, envoy).await,
        (Mode::Sidecar, Some(envoy)) => sidecars(lab, envoy, Reads::Http).await,
        (Mode::SidecarL4, Some(envoy)) => sidecars(lab, envoy, Reads::Nothing).await,
        (Mode::AmbientL7 | Mode::Sidecar | Mode::SidecarL4, None) => bail!(super::NO_ENVOY),
    }
}

async fn plain(lab: &Lab, server: &'static str, node: &'static str) -> Result<Place> {
    let server = pair(lab, PLAIN, server, node).await?;
    let client = Client { namespace: PLAIN, pod: "client" };
    Ok(Place { client, http: server, bytes: server, proxies: Vec::new(), proof: None })
}

async fn ambient(lab: &Lab, server: &'static str, node: &'static str, nodes: &[&str]) -> Result<Place> {
    let address = pair(lab, AMBIENT, server, node).await?;
    wait_for(lab, AMBIENT, &["client", server], cluster::is_captured).await.context("not captured")?;
    let proxies = nodes.iter().map(|node| ztunnel(lab, node)).collect::<Result<_>>()?;
    let proof = Some((node, inbound("client", server)));
    Ok(Place { client: Client { namespace: AMBIENT, pod: "client" }, http: address, bytes: address, proxies, proof })
}

/// What the node proxy of a server says of connections whose client has proved who it is.
fn inbound(client: &str, server: &str) -> Vec<String> {
    vec![
        "direction=\"inbound\"".to_owned(),
        format!("src.identity=\"spiffe://cluster.local/ns/{AMBIENT}/sa/{client}\""),
        format!("dst.workload=\"{server}\""),
    ]
}

/// A client and a server without anything between them; the server's address.
async fn pair(lab: &Lab, namespace: &str, server: &str, node: &str) -> Result<SocketAddr> {
    apply(lab, &objects::namespace(namespace)).await?;
    for account in ["client", server] {
        apply(lab, &objects::account(namespace, account)).await?;
    }
    apply(lab, &objects::server(namespace, server, node, None)).await?;
    apply(lab, &objects::client(namespace, "client", None)).await?;
    wait_for(lab, namespace, &["client", server], cluster::is_ready).await?;
    Ok(SocketAddr::new(address(lab, namespace, server).await?, SERVER_PORT))
}

async fn waypoint(lab: &Lab, envoy: &mut Envoy) -> Result<Place> {
    let Place { client, bytes: server, mut proxies, .. } =
        ambient(lab, "server", SERVER_NODE, &[CLIENT_NODE, SERVER_NODE]).await?;
    for object in objects::gateway().iter().chain([&objects::service(), &objects::account(AMBIENT, "waypoint")]) {
        apply(lab, object).await?;
    }
    let [vip, gateway] = [service_address(lab, "server").await?, service_address(lab, "waypoint").await?];
    let [http, bytes] = [HTTP_PORT, BYTES_PORT].map(|port| SocketAddr::new(vip, port));
    let services = [
        Service { from: http, to: server, reads: Reads::Http },
        Service { from: bytes, to: server, reads: Reads::Nothing },
    ];
    let identity = identity("waypoint", AMBIENT)?;
    let credentials = Credentials::issue(&mesh_authority(lab).await?, &identity, &envoy.folder("waypoint"))?;
    let instance = envoy.write("waypoint", "the waypoint", envoy::waypoint(&services, &credentials))?;
    apply(lab, &objects::waypoint(&instance.command)).await?;
    wait_for(lab, AMBIENT, &["waypoint"], cluster::is_ready).await?;
    // What deploys waypoints says where they are.
    let status = json!({"status": {"addresses": [
        {"type": "IPAddress", "value": gateway.to_string()},
        {"type": "Hostname", "value": format!("waypoint.{AMBIENT}.svc.cluster.local")},
    ]}});
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway"));
    let gateways: Api<DynamicObject> = Api::namespaced_with(lab.client()?.clone(), AMBIENT, &kind);
    gateways.patch_status("waypoint", &PatchParams::default(), &Patch::Merge(status)).await?;
    let label = json!({"metadata": {"labels": {USE_WAYPOINT: "waypoint"}}});
    let services: Api<KubernetesService> = Api::namespaced(lab.client()?.clone(), AMBIENT);
    services.patch("server", &PatchParams::default(), &Patch::Merge(label)).await?;
    proxies.insert(1, running(lab, &instance)?);
    let proof = Some((SERVER_NODE, inbound("waypoint", "server")));
    Ok(Place { client, http, bytes, proxies, proof })
}

async fn sidecars(lab: &Lab, envoy: &mut Envoy, reads: Reads) -> Result<Place> {
    let (client, server) = match reads {
        Reads::Http => ("client", "server"),
        Reads::Nothing => ("client-l4", "server-l4"),
    };
    apply(lab, &objects::namespace(SIDECAR)).await?;
    let authority = envoy.authority()?;
    let mut credentials = Vec::new();
    for account in [client, server] {
        apply(lab, &objects::account(SIDECAR, account)).await?;
        let identity = identity(account, SIDECAR)?;
        credentials.push(Credentials::issue(&authority, &identity, &envoy.folder(account))?);
    }
    let [client_credentials, server_credentials] = credentials.as_slice() else { bail!("not a pair of certificates") };
    let kind = if reads == Reads::Http { "sidecar" } else { "sidecar-l4" };
    let server_envoy =
        envoy.write(server, &format!("{kind}: the server's"), envoy::server(reads, SERVER_PORT, server_credentials))?;
    let container = envoy::container(&server_envoy.command);
    apply(lab, &objects::server(SIDECAR, server, SERVER_NODE, Some(container))).await?;
    wait_for(lab, SIDECAR, &[server], cluster::is_ready).await?;
    let address = address(lab, SIDECAR, server).await?;
    let client_envoy =
        envoy.write(client, &format!("{kind}: the client's"), envoy::client(reads, address, client_credentials))?;
    let container = envoy::container(&client_envoy.command);
    apply(lab, &objects::client(SIDECAR, client, Some(container))).await?;
    wait_for(lab, SIDECAR, &[client], cluster::is_ready).await?;
    let [http, bytes] =
        [envoy::OUTBOUND_HTTP, envoy::OUTBOUND_BYTES].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let proxies = vec![running(lab, &client_envoy)?, running(lab, &server_envoy)?];
    Ok(Place { client: Client { namespace: SIDECAR, pod: client }, http, bytes, proxies, proof: None })
}

/// Creates an object; that it is there already is fine.
async fn apply(lab: &Lab, object: &Value) -> Result<()> {
    match cluster::create(lab.client()?, object).await {
        Err(error) if is_conflict(&error) => Ok(()),
        created => created,
    }
}

fn is_conflict(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if status.code == 409)
}

/// Waits for these pods; others of the namespace may belong to a mode that does not work.
async fn wait_for(lab: &Lab, namespace: &str, names: &[&str], condition: impl Fn(&Pod) -> bool) -> Result<()> {
    let is_other = |pod: &Pod| pod.metadata.name.as_deref().is_none_or(|name| !names.contains(&name));
    let condition = |pod: &Pod| is_other(pod) || condition(pod);
    cluster::wait_for_pods(lab.client()?, namespace, POD_DEADLINE, condition).await?;
    Ok(())
}

async fn address(lab: &Lab, namespace: &str, pod: &str) -> Result<IpAddr> {
    let pods: Api<Pod> = Api::namespaced(lab.client()?.clone(), namespace);
    let status = pods.get(pod).await?.status.and_then(|status| status.pod_ip);
    status.with_context(|| format!("pod {pod} has no address"))?.parse().context("not an address")
}

async fn service_address(lab: &Lab, name: &str) -> Result<IpAddr> {
    let services: Api<KubernetesService> = Api::namespaced(lab.client()?.clone(), AMBIENT);
    let address = services.get(name).await?.spec.and_then(|spec| spec.cluster_ip);
    address.with_context(|| format!("service {name} has no address"))?.parse().context("not an address")
}

/// The mesh's own authority: a waypoint has a certificate of it.
async fn mesh_authority(lab: &Lab) -> Result<tls::Authority> {
    let secrets: Api<Secret> = Api::namespaced(lab.client()?.clone(), SYSTEM_NAMESPACE);
    let data = secrets.get(AUTHORITY).await?.data.unwrap_or_default();
    let text = |key: &str| -> Result<String> {
        let found = data.get(key).with_context(|| format!("Secret {AUTHORITY} lacks {key}"))?;
        Ok(String::from_utf8(found.0.clone())?)
    };
    Ok(tls::Authority::from_pem(&text("ca-cert.pem")?, &text("ca-key.pem")?)?)
}

fn identity(account: &str, namespace: &str) -> Result<Identity> {
    let trust_domain = TrustDomain::default();
    Ok(format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}").parse()?)
}

fn ztunnel(lab: &Lab, node: &str) -> Result<Process> {
    let name = format!("ztunnel-{node}");
    find(lab, &name, |pid, words| {
        words.get(1).is_some_and(|verb| verb == "ztunnel") && usage::variable(pid, "POD_NAME").as_ref() == Some(&name)
    })
}

/// The process of an Envoy: nobody else was started with its words.
fn running(lab: &Lab, instance: &Instance) -> Result<Process> {
    let Instance { role, command } = instance;
    find(lab, &format!("envoy ({role})"), |_, words| words.starts_with(command))
}

fn find(lab: &Lab, name: &str, is_it: impl Fn(u32, &[String]) -> bool) -> Result<Process> {
    let family = usage::family(lab.pid()?)?;
    let found = family.iter().find(|(pid, words)| is_it(*pid, words));
    let (pid, _) = found.with_context(|| format!("no process of the lab is {name}"))?;
    Ok(Process::open(name, *pid)?)
}
