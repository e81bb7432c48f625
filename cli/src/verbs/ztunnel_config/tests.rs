//! Rendering of dumps that two ztunnels of a lab gave: the shop of manifests/shop.yaml, labelled, with a policy for cart,
//! STRICT for payment, and two streams open.

use clap::Parser;

use super::*;

const NODE_1: &str = include_str!("fixtures/node-1.json");
const NODE_2: &str = include_str!("fixtures/node-2.json");

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    verb: ZtunnelConfigArgs,
}

/// What the verb prints for both dumps.
fn printed(arguments: &[&str]) -> String {
    let command = Command::try_parse_from([&["ztunnel-config"], arguments].concat()).unwrap();
    let (part, common, mut selection) = command.verb.listing.parts();
    selection.namespace = common.namespace;
    let dumps = vec![Dump::parse(NODE_1).unwrap(), Dump::parse(NODE_2).unwrap()];
    let selected = selection.of(Dump::merged(dumps));
    assert!(selected.dump.disagreements.is_empty(), "{:?}", selected.dump.disagreements);
    match common.output {
        Format::Table => {
            let recorded_at = "2026-11-21T12:05:00Z".parse().unwrap();
            table(part, &selected, selection.connections.raw, recorded_at)
        }
        _ => json(part, &selected.dump).to_string(),
    }
}

#[test]
fn workloads_are_listed_by_namespace_and_name() {
    let expected = "\
NAMESPACE   POD NAME   ADDRESS      NODE     WAYPOINT   PROTOCOL
shop        cart       10.244.2.2   node-2   None       HBONE
shop        frontend   10.244.1.3   node-1   None       HBONE
shop        payment    10.244.2.3   node-2   None       HBONE
";
    assert_eq!(printed(&["workloads", "-n", "shop"]), expected);
    assert_eq!(printed(&["w", "--workload-namespace", "shop"]), expected);
    let outsider = printed(&["workload", "--address", "10.244.1.4"]);
    assert_eq!(outsider.lines().nth(1).unwrap(), "street      outsider   10.244.1.4   node-1   None       TCP");
    assert_eq!(printed(&["w", "--workload-node", "node-2", "-n", "shop"]).lines().count(), 3);
}

#[test]
fn services_show_their_address_and_healthy_endpoints() {
    let text = printed(&["svc", "--service-namespace", "shop"]);
    let expected = "\
NAMESPACE   SERVICE NAME   SERVICE VIP   WAYPOINT   ENDPOINTS
shop        cart           10.96.1.2     None       1/1
shop        frontend       10.96.1.1     None       1/1
shop        payment        10.96.1.3     None       1/1
";
    assert_eq!(text, expected);
}

#[test]
fn policies_show_action_and_scope() {
    let expected = "\
NAMESPACE      POLICY NAME                     ACTION   SCOPE
istio-system   istio_converted_static_strict   Deny     WorkloadSelector
shop           only-frontend                   Allow    WorkloadSelector
";
    assert_eq!(printed(&["policies"]), expected);
    assert_eq!(printed(&["pol", "--policy-namespace", "shop"]).lines().count(), 2);
}

#[test]
fn certificates_show_leaf_and_root_with_their_times() {
    let text = printed(&["certs", "-n", "shop"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("CERTIFICATE NAME "), "{text}");
    let leaf = lines.iter().find(|line| line.contains("/sa/cart ") && line.contains(" Leaf ")).unwrap();
    assert!(leaf.contains("spiffe://cluster.local/ns/shop/sa/cart ") && leaf.contains(" Available "), "{leaf}");
    assert!(leaf.contains(" true ") && leaf.contains("2026-11-22T12:0"), "{leaf}");
    assert!(lines.iter().any(|line| line.contains("/sa/cart ") && line.contains(" Root ")), "{text}");
}

#[test]
fn connections_show_both_ends_by_name() {
    let text = printed(&["cons"]);
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(
        words.contains(&vec![
            "cart.shop",
            "Inbound",
            "cart.shop:9000",
            "frontend.shop:34878",
            "cart.shop.svc.cluster.local",
            "HBONE"
        ]),
        "{text}"
    );
    assert!(
        words.iter().any(|row| row[..2] == ["frontend.shop", "Outbound"] && row.last() == Some(&"HBONE")),
        "{text}"
    );
    // The outsider's plaintext, inbound to frontend.
    assert!(words.iter().any(|row| row[..2] == ["frontend.shop", "Inbound"] && row.last() == Some(&"TCP")), "{text}");
    let raw = printed(&["connections", "--raw", "--direction", "inbound"]);
    assert!(raw.contains("10.244.2.2:9000") && !raw.contains("Outbound"), "{raw}");
}

#[test]
fn all_is_every_table() {
    let text = printed(&["all"]);
    for heading in ["POD NAME", "SERVICE NAME", "POLICY NAME", "CERTIFICATE NAME", "REMOTE TARGET"] {
        assert!(text.contains(heading), "{heading} is not in\n{text}");
    }
}

#[test]
fn json_is_what_the_proxies_said() {
    let workloads: Value = serde_json::from_str(&printed(&["w", "-o", "json", "-n", "shop"])).unwrap();
    assert_eq!(workloads.as_array().unwrap().len(), 3);
    assert_eq!(workloads[0]["trustDomain"], "cluster.local");
    let all: Value = serde_json::from_str(&printed(&["all", "-o", "json"])).unwrap();
    for key in ["workloads", "services", "policies", "certificates", "workloadState"] {
        assert!(all.get(key).is_some(), "{key}");
    }
    let one_way: Value = serde_json::from_str(&printed(&["cons", "-o", "json", "--direction", "inbound"])).unwrap();
    assert!(one_way.as_object().unwrap().values().all(|pod| pod["connections"]["outbound"] == serde_json::json!([])));
}
