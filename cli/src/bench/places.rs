//! Sets up the modes: which pods there are, where clients reach servers, and what stands between.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use bench::envoy::{self, Credentials, Reads, Service};
use bench::mode::Mode;
use bench::usage::{self, Process};
use k8s_openapi::api::core::v1::{Secret, Service as KubernetesService};
use kinds::labels::USE_WAYPOINT;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use lab::mesh::SYSTEM_NAMESPACE;
use serde_json::json;
use types::{Identity, TrustDomain};

use super::envoy::{Envoy, Instance};
use super::objects::{self, BYTES_PORT, Beside, HTTP_PORT, Mesh, RELAY_PORT, SERVER_PORT, WAYPOINT};
use super::proxies;
use super::site::{self, Site};
use crate::demo::cluster;

/// Where the control plane keeps its certificate authority.
const AUTHORITY: &str = "istio-ca-secret";

/// What pods of the mesh are called.
const CLIENT: &str = "ambient-client";
const SERVER: &str = "ambient-server";

/// A pod by its name, and the node that it is on.
type Spot<'a> = (&'a str, &'a str);

/// The clients and servers of a mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The client's pod.
    pub(crate) client: String,
    pub(crate) http: SocketAddr,
    pub(crate) bytes: SocketAddr,
    pub(crate) proxies: Vec<Process>,
    /// What runs in the client's pod, where it can be seen.
    pub(crate) agent: Option<Process>,
    /// What shows that traffic is encrypted: a line with all these parts in the log of this node's proxy.
    pub(crate) proof: Option<(String, Vec<String>)>,
    /// Each Envoy by what reports call it, and where it answers questions about itself.
    pub(crate) envoys: Vec<(String, SocketAddr)>,
}

/// Makes the pods of `mode`, unless another mode has made them, and says where they are.
pub(crate) async fn set_up(site: &Site, mode: Mode, envoy: Option<&mut Envoy>) -> Result<Place> {
    let place = match (mode, envoy) {
        (Mode::None, _) => plain(site, ("plain-server", site.far()?)).await,
        (Mode::NoneSameNode, _) => plain(site, ("plain-near", &site.near)).await,
        (Mode::AmbientL4, _) => ambient(site, (CLIENT, &site.near), (SERVER, site.far()?)).await,
        (Mode::AmbientL4SameNode, _) => ambient(site, (CLIENT, &site.near), ("ambient-near", &site.near)).await,
        (Mode::AmbientL4Cold, _) => Box::pin(cold(site, mode)).await,
        (Mode::AmbientL7, Some(envoy)) => Box::pin(waypoint(site, envoy)).await,
        (Mode::Sidecar, Some(envoy)) => sidecars(site, envoy, Reads::Http, "sidecar").await,
        (Mode::SidecarL4, Some(envoy)) => sidecars(site, envoy, Reads::Nothing, "sidecar-l4").await,
        (Mode::Relay, _) => relays(site).await,
        (Mode::AmbientL7 | Mode::Sidecar | Mode::SidecarL4, None) => bail!("there is no Envoy"),
    }?;
    Ok(Place { agent: agent(site, &place.client)?, ..place })
}

/// A client that reaches its server at this address, with nothing between them so far.
fn bare(client: &str, server: SocketAddr) -> Place {
    Place {
        client: client.to_owned(),
        http: server,
        bytes: server,
        proxies: Vec::new(),
        agent: None,
        proof: None,
        envoys: Vec::new(),
    }
}

async fn plain(site: &Site, server: Spot<'_>) -> Result<Place> {
    let client = "plain-client";
    Ok(bare(client, pair(site, (client, &site.near), server, Mesh::Out).await?))
}

async fn ambient(site: &Site, client: Spot<'_>, server: Spot<'_>) -> Result<Place> {
    let ((client_pod, near), (server_pod, node)) = (client, server);
    let nodes: &[&str] = if node == near { &[node] } else { &[near, node] };
    let mut proxies = Vec::new();
    for node in nodes {
        let (_, name) = site.node_proxy(node).await?;
        proxies.extend(ztunnel(site, &name)?);
    }
    let address = pair(site, client, server, Mesh::In).await?;
    for pod in [client_pod, server_pod] {
        site.wait_for(pod, "captured by the ambient mesh", cluster::is_captured).await?;
    }
    let proof = Some((node.to_owned(), inbound(site, client_pod, server_pod)));
    Ok(Place { proxies, proof, ..bare(client_pod, address) })
}

/// As [`ambient`], between nodes whose proxies are told what this mode tells them.
async fn cold(site: &Site, mode: Mode) -> Result<Place> {
    let [near, far] = site.apart.as_ref().context("there are no nodes whose proxies may be told otherwise")?;
    for node in [near, far] {
        proxies::tell(site, node, mode.proxy_settings()).await?;
    }
    ambient(site, ("cold-client", near), ("cold-server", far)).await
}

/// What the node proxy of a server says of connections whose client has proved who it is.
fn inbound(site: &Site, client: &str, server: &str) -> Vec<String> {
    vec![
        "direction=\"inbound\"".to_owned(),
        "src.identity=\"spiffe://".to_owned(),
        format!("/ns/{}/sa/{client}\"", site.namespace),
        format!("dst.workload=\"{server}\""),
    ]
}

/// Who pods are.
async fn accounts(site: &Site, names: [&str; 2]) -> Result<()> {
    for name in names {
        site.apply(&objects::account(site, name)).await?;
    }
    Ok(())
}

/// A client and a server without anything of ours between them; the server's address.
async fn pair(
    site: &Site,
    (client, client_node): Spot<'_>,
    (server, server_node): Spot<'_>,
    mesh: Mesh,
) -> Result<SocketAddr> {
    accounts(site, [client, server]).await?;
    site.apply(&objects::server(site, server, server_node, mesh, Beside::Nothing)).await?;
    site.apply(&objects::client(site, client, client_node, mesh, Beside::Nothing)).await?;
    let found = site.wait_for(server, "ready", cluster::is_ready).await?;
    site.wait_for(client, "ready", cluster::is_ready).await?;
    Ok(SocketAddr::new(site::address(&found)?, SERVER_PORT))
}

async fn waypoint(site: &Site, envoy: &mut Envoy) -> Result<Place> {
    let place = ambient(site, (CLIENT, &site.near), (SERVER, site.far()?)).await?;
    let [own, account] = [objects::service(site, SERVER), objects::account(site, WAYPOINT)];
    for object in objects::gateway(site).iter().chain([&own, &account]) {
        site.apply(object).await?;
    }
    let [vip, gateway] = [service_address(site, SERVER).await?, service_address(site, WAYPOINT).await?];
    let [http, bytes] = [HTTP_PORT, BYTES_PORT].map(|port| SocketAddr::new(vip, port));
    let services = [
        Service { from: http, to: place.bytes, reads: Reads::Http },
        Service { from: bytes, to: place.bytes, reads: Reads::Nothing },
    ];
    let authority = mesh_authority(site).await?;
    let credentials = Credentials::issue(&authority, &identity(site, WAYPOINT)?, &Envoy::folder(WAYPOINT))?;
    let instance = envoy.instance(WAYPOINT, "the waypoint", envoy::waypoint(&services, &credentials), &credentials)?;
    site.apply(&objects::secret(site, &instance)?).await?;
    site.apply(&objects::waypoint(site, site.far()?, &instance)).await?;
    let pod = site.wait_for(WAYPOINT, "ready", cluster::is_ready).await?;
    // What deploys waypoints says where they are.
    let status = json!({"status": {"addresses": [
        {"type": "IPAddress", "value": gateway.to_string()},
        {"type": "Hostname", "value": format!("{WAYPOINT}.{}.svc.cluster.local", site.namespace)},
    ]}});
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway"));
    let gateways: Api<DynamicObject> = Api::namespaced_with(site.client.clone(), &site.namespace, &kind);
    gateways.patch_status(WAYPOINT, &PatchParams::default(), &Patch::Merge(status)).await?;
    let label = json!({"metadata": {"labels": {USE_WAYPOINT: WAYPOINT}}});
    let services: Api<KubernetesService> = Api::namespaced(site.client.clone(), &site.namespace);
    services.patch(SERVER, &PatchParams::default(), &Patch::Merge(label)).await?;
    let mut proxies = place.proxies;
    // Between those of the nodes, as traffic goes.
    if let Some(process) = running(site, &title(&instance), &instance.command)? {
        proxies.insert(1, process);
    }
    let proof = Some((site.far()?.to_owned(), inbound(site, WAYPOINT, SERVER)));
    Ok(Place { http, bytes, proxies, proof, envoys: vec![admin(&instance, site::address(&pod)?)], ..place })
}

async fn sidecars(site: &Site, envoy: &mut Envoy, reads: Reads, kind: &str) -> Result<Place> {
    let [client, server] = ["client", "server"].map(|side| format!("{kind}-{side}"));
    let authority = envoy.authority()?;
    accounts(site, [&client, &server]).await?;
    let issue = |name: &str| -> Result<Credentials> {
        Ok(Credentials::issue(&authority, &identity(site, name)?, &Envoy::folder(name))?)
    };
    let [client_credentials, server_credentials] = [issue(&client)?, issue(&server)?];
    let configuration = envoy::server(reads, SERVER_PORT, &server_credentials);
    let server_envoy = envoy.instance(&server, &format!("{kind}: the server's"), configuration, &server_credentials)?;
    site.apply(&objects::secret(site, &server_envoy)?).await?;
    site.apply(&objects::server(site, &server, site.far()?, Mesh::Out, Beside::Envoy(&server_envoy))).await?;
    let server_address = site::address(&site.wait_for(&server, "ready", cluster::is_ready).await?)?;
    let configuration = envoy::client(reads, server_address, &client_credentials);
    let client_envoy = envoy.instance(&client, &format!("{kind}: the client's"), configuration, &client_credentials)?;
    site.apply(&objects::secret(site, &client_envoy)?).await?;
    site.apply(&objects::client(site, &client, &site.near, Mesh::Out, Beside::Envoy(&client_envoy))).await?;
    let client_address = site::address(&site.wait_for(&client, "ready", cluster::is_ready).await?)?;
    let [http, bytes] =
        [envoy::OUTBOUND_HTTP, envoy::OUTBOUND_BYTES].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let envoy = |one: &Instance| running(site, &title(one), &one.command);
    let proxies = [envoy(&client_envoy)?, envoy(&server_envoy)?].into_iter().flatten().collect();
    let envoys = vec![admin(&client_envoy, client_address), admin(&server_envoy, server_address)];
    Ok(Place { http, bytes, proxies, envoys, ..bare(&client, http) })
}

async fn relays(site: &Site) -> Result<Place> {
    let [client, server] = ["relay-client", "relay-server"];
    accounts(site, [client, server]).await?;
    let inbound = objects::relay_command(SocketAddr::from(([127, 0, 0, 1], SERVER_PORT)));
    site.apply(&objects::server(site, server, site.far()?, Mesh::Out, Beside::Relay(&inbound))).await?;
    let address = site::address(&site.wait_for(server, "ready", cluster::is_ready).await?)?;
    let outbound = objects::relay_command(SocketAddr::new(address, RELAY_PORT));
    site.apply(&objects::client(site, client, &site.near, Mesh::Out, Beside::Relay(&outbound))).await?;
    site.wait_for(client, "ready", cluster::is_ready).await?;
    let proxies = [running(site, "relay (the client's)", &outbound)?, running(site, "relay (the server's)", &inbound)?];
    let proxies = proxies.into_iter().flatten().collect();
    Ok(Place { proxies, ..bare(client, SocketAddr::from(([127, 0, 0, 1], RELAY_PORT))) })
}

/// Where an Envoy answers questions about itself.
fn admin(instance: &Instance, address: IpAddr) -> (String, SocketAddr) {
    (title(instance), SocketAddr::new(address, envoy::ADMIN))
}

async fn service_address(site: &Site, name: &str) -> Result<IpAddr> {
    let services: Api<KubernetesService> = Api::namespaced(site.client.clone(), &site.namespace);
    let address = services.get(name).await?.spec.and_then(|spec| spec.cluster_ip);
    address.with_context(|| format!("service {name} has no address"))?.parse().context("not an address")
}

/// The mesh's own authority: a waypoint has a certificate of it.
async fn mesh_authority(site: &Site) -> Result<tls::Authority> {
    let secrets: Api<Secret> = Api::namespaced(site.client.clone(), SYSTEM_NAMESPACE);
    let data = secrets.get(AUTHORITY).await?.data.unwrap_or_default();
    let text = |key: &str| -> Result<String> {
        let found = data.get(key).with_context(|| format!("Secret {AUTHORITY} lacks {key}"))?;
        Ok(String::from_utf8(found.0.clone())?)
    };
    Ok(tls::Authority::from_pem(&text("ca-cert.pem")?, &text("ca-key.pem")?)?)
}

fn identity(site: &Site, account: &str) -> Result<Identity> {
    let (trust_domain, namespace) = (TrustDomain::default(), &site.namespace);
    Ok(format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}").parse()?)
}

fn ztunnel(site: &Site, pod: &str) -> Result<Option<Process>> {
    let is_pod = |pid| usage::variable(pid, "POD_NAME").as_deref() == Some(pod);
    site.process(pod, |pid, words| words.get(1).is_some_and(|verb| verb == "ztunnel") && is_pod(pid))
}

/// What waits in a client's pod for load to make.
fn agent(site: &Site, pod: &str) -> Result<Option<Process>> {
    let is_pod = |pid| usage::variable(pid, "HOSTNAME").as_deref() == Some(pod);
    let is_agent =
        |words: &[String]| words.get(1..).is_some_and(|words| words.starts_with(&["load", "agent"].map(str::to_owned)));
    site.process(pod, |pid, words| is_agent(words) && is_pod(pid))
}

/// The process of a proxy of ours: nobody else was started with its words.
fn running(site: &Site, title: &str, command: &[String]) -> Result<Option<Process>> {
    site.process(title, |_, words| words.starts_with(command))
}

/// What reports call an Envoy.
fn title(instance: &Instance) -> String {
    format!("envoy ({})", instance.role)
}
