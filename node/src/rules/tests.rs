//! The rules, as `nft` would print them, compared with golden files.

use super::*;

fn v4() -> FamilyRules {
    FamilyRules::v4(Ipv4Addr::new(169, 254, 7, 127))
}

fn v6() -> FamilyRules {
    FamilyRules::v6("fd16:9254:7127:1337:ffff:ffff:ffff:ffff".parse().unwrap())
}

fn assert_golden(name: &str, table: &Table) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/golden").join(name);
    let text = table.to_string();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{} differs; UPDATE_GOLDEN=1 writes it anew", path.display());
}

#[test]
fn a_captured_pod() {
    assert_golden("pod-v4.nft", &pod_table(&[v4()], &Capture::default(), &[]));
    assert_golden("pod-v6.nft", &pod_table(&[v6()], &Capture::default(), &[]));
    assert_golden("pod-dual.nft", &pod_table(&[v4(), v6()], &Capture::default(), &[]));
}

#[test]
fn a_captured_pod_with_its_lookups() {
    assert_golden("pod-lookups-v4.nft", &pod_table(&[v4(), v6()], &Capture::default(), &[v4()]));
    assert_golden("pod-lookups-v6.nft", &pod_table(&[v4(), v6()], &Capture::default(), &[v6()]));
    assert_golden("pod-lookups-dual.nft", &pod_table(&[v4(), v6()], &Capture::default(), &[v4(), v6()]));
}

#[test]
fn a_pod_with_annotations() {
    let capture = Capture { outbound_only: true, virtual_interfaces: vec!["tap0".to_owned()], lookups: false };
    assert_golden("pod-annotated.nft", &pod_table(&[v4()], &capture, &[]));
}

#[test]
fn a_pod_that_leaves() {
    assert_golden("pod-leaving.nft", &leaving_table());
}

#[test]
fn a_node() {
    assert_golden("host-v4.nft", &host_table(&[v4()]));
    assert_golden("host-v6.nft", &host_table(&[v6()]));
    assert_golden("host-dual.nft", &host_table(&[v4(), v6()]));
}

#[test]
fn whatever_is_redirected_is_a_first_segment() {
    let capture = Capture { outbound_only: false, virtual_interfaces: vec!["tap0".to_owned()], lookups: true };
    let table = pod_table(&[v4(), v6()], &capture, &[v4(), v6()]);
    for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
        let is_redirect = |one: &Statement| matches!(one, Statement::Redirect(_) | Statement::DnatAmong(..));
        let redirects = rule.statements.iter().any(is_redirect);
        let is_datagram = rule.statements.iter().any(|statement| {
            matches!(
                statement,
                Statement::DestinationPort(Transport::Udp, ..) | Statement::SourcePort(Transport::Udp, ..)
            )
        });
        assert_eq!(redirects && !is_datagram, rule.statements.contains(&first_segment()), "{rule:?}");
    }
}

#[test]
fn a_pod_that_leaves_still_needs_connection_tracking_in_both_nat_chains() {
    let table = leaving_table();
    for chain in table.chains.iter().filter(|chain| chain.base.is_some_and(|base| base.kind == ChainKind::Nat)) {
        let tracks = chain.rules.iter().any(|rule| rule.statements.iter().any(|s| matches!(s, Statement::CtState(_))));
        assert!(tracks, "{}", chain.name);
    }
}
