//! The rules that the mesh and the lab write, read by the program that wrote none of them.

use std::fs;

use serde_json::Value;

use crate::support::lab::{Lab, SHOP};

const PODS: &str = include_str!("../fixtures/shop.yaml");

/// What `nft` makes of the tables at a place: as text, as JSON, and both loaded into an empty network and listed again.
struct Reading {
    text: String,
    objects: Vec<Value>,
    text_again: String,
    json_again: String,
}

impl Reading {
    /// `place` is a place of the lab as `aquifer exec` takes it.
    async fn of(lab: &Lab, place: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Counters go on counting: one listing is what everything else is made of, and the kernel's lock is short.
        let script = "set -e; cd \"$1\"; nft list ruleset > text; nft -j list ruleset > json; \
                      unshare -n sh -c 'nft -f text; nft list ruleset' > text-again; \
                      unshare -n sh -c 'nft -j -f json; nft list ruleset' > json-again";
        let folder_text = folder.path().display().to_string();
        let read = lab.run("exec", &[place, &["--", "sh", "-c", script, "sh", &folder_text]].concat()).await;
        assert!(read.status.success(), "{place:?}: {read:?}");
        let file = |name| fs::read_to_string(folder.path().join(name)).unwrap();
        let json: Value = serde_json::from_str(&file("json")).unwrap();
        Self {
            text: without_counts(&file("text")),
            objects: json["nftables"].as_array().unwrap().clone(),
            text_again: without_counts(&file("text-again")),
            json_again: without_counts(&file("json-again")),
        }
    }

    /// Everything of ours comes back as it was, whichever way it went.
    fn assert_loads_again(&self, tables: &[&str]) {
        assert_eq!(self.text, self.text_again);
        assert_eq!(self.text, self.json_again);
        let named = |kind: &str| {
            let names = self.objects.iter().filter_map(|object| object[kind]["name"].as_str());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut names = named("table");
        // The Services' rules have a table in each address family.
        names.dedup();
        assert_eq!(names, tables, "{}", self.text);
        let rules = self.objects.iter().filter(|object| !object["rule"].is_null()).count();
        assert!(rules > 0 && !named("chain").is_empty(), "{}", self.text);
    }

    /// The comments of a table's rules as JSON tells them, which may lack them.
    fn comments(&self, table: &str) -> Vec<Option<&str>> {
        let rules = self.objects.iter().map(|object| &object["rule"]).filter(|rule| rule["table"] == table);
        rules.map(|rule| rule["comment"].as_str()).collect()
    }

    fn assert_says_what_each_rule_is_for(&self, table: &str) {
        let comments = self.comments(table);
        assert!(!comments.is_empty() && comments.iter().all(Option::is_some), "{}", self.text);
    }
}

/// Packets and bytes that were counted differ from one listing to the next.
fn without_counts(listing: &str) -> String {
    let mut words = listing.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        kept.push(word);
        if word == "packets" || word == "bytes" {
            words.next();
        }
    }
    kept.join(" ")
}

#[tokio::test]
async fn nft_reads_every_table_and_loads_its_listing_again() {
    let Some(lab) = Lab::start(&["nft"]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    for pod in ["frontend", "cart"] {
        let pod = Reading::of(&lab, &[pod, "-n", SHOP]).await;
        pod.assert_loads_again(&["aquifer"]);
        pod.assert_says_what_each_rule_is_for("aquifer");
    }
    for node in ["node-1", "node-2"] {
        let node = Reading::of(&lab, &["--node", node]).await;
        // The lab's nodes have Services as well.
        node.assert_loads_again(&["aquifer-host", "aquifer-services"]);
        node.assert_says_what_each_rule_is_for("aquifer-host");
        assert!(node.comments("aquifer-services").contains(&Some("shop/cart:80")), "{}", node.text);
        let sets = node.objects.iter().filter_map(|object| object["set"]["elem"].as_array());
        let elements: Vec<&Value> = sets.flatten().collect();
        assert!(elements.iter().all(|element| element["elem"]["comment"].is_string()), "{elements:?}");
        assert!(!elements.is_empty(), "the addresses of captured pods: {}", node.text);
    }
}
