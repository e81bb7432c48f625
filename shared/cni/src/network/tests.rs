//! Which file counts, and what becomes of it.

use super::*;

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn chosen(files: &[(&str, &str)]) -> Option<String> {
    let directory = directory(files);
    let found = first(directory.path()).unwrap()?;
    Some(found.path.file_name().unwrap().to_str().unwrap().to_owned())
}

const LIST_TEXT: &str =
    r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ptp","mtu":1400}],"disableCheck":true}"#;
const SINGLE_TEXT: &str = r#"{"cniVersion":"0.4.0","name":"weave","type":"weave-net","hairpinMode":true}"#;

#[test]
fn the_first_valid_file_by_name_counts() {
    assert_eq!(chosen(&[("20-b.conflist", LIST_TEXT), ("10-a.conf", SINGLE_TEXT)]).unwrap(), "10-a.conf");
    for broken in [
        "",
        "{",
        r#"{"name":"n","plugins":[]}"#,
        r#"{"name":"n","plugins":[{}]}"#,
        r#"{"plugins":[{"type":"a"}]}"#,
        r#"{"name":"n","plugins":[{"type":"../a"}]}"#,
    ] {
        assert_eq!(
            chosen(&[("10-a.conflist", broken), ("20-b.conflist", LIST_TEXT)]).unwrap(),
            "20-b.conflist",
            "{broken}"
        );
    }
    assert_eq!(chosen(&[("10-a.conflist.tmp", LIST_TEXT), ("README", LIST_TEXT)]), None);
    assert_eq!(first(Path::new("/nonexistent")).unwrap(), None);
}

#[test]
fn our_plugin_comes_last_and_the_rest_stays() {
    let network = Network::list(LIST_TEXT.as_bytes()).unwrap();
    let ours = json!({"type": "ours", "a": 1});
    let with = network.with_last(ours.clone());
    assert!(with.has("ours") && !network.has("ours"));
    let text = with.to_text();
    let whole: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(whole["disableCheck"], true);
    assert_eq!(whole["plugins"], json!([{"type": "ptp", "mtu": 1400}, ours]));
    let read_again = Network::list(text.as_bytes()).unwrap();
    assert_eq!(read_again.with_last(ours).to_text(), text, "a second time changes nothing");
    // Somebody put a plugin after ours, and ours has other settings now.
    let mut other = read_again;
    other.plugins.push(json!({"type": "late"}));
    let newer = other.with_last(json!({"type": "ours", "a": 2}));
    let types: Vec<_> = newer.plugins.iter().map(|plugin| type_of(plugin).unwrap()).collect();
    assert_eq!(types, ["ptp", "late", "ours"]);
    assert_eq!(newer.plugins[2]["a"], 2);
    assert_eq!(with.without("ours"), network);
}

#[test]
fn a_single_plugin_becomes_a_list_and_keeps_its_name() {
    let network = Network::single(SINGLE_TEXT.as_bytes()).unwrap();
    assert_eq!((network.name.as_str(), network.version.as_str()), ("weave", "0.4.0"));
    assert_eq!(network.plugins, [json!({"type": "weave-net", "hairpinMode": true})]);
    let bare = Network::single(br#"{"cniVersion":"0.2.0","type":"flannel"}"#).unwrap();
    assert_eq!((bare.name.as_str(), bare.version.as_str()), ("k8s-pod-network", "0.3.1"));
    assert!(Network::single(br#"{"name":"x"}"#).is_none());
}
