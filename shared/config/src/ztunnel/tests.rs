//! What the node proxy makes of its variables.

use std::num::NonZero;

use super::*;

fn ztunnel(pairs: &[(&str, &str)]) -> Ztunnel {
    Ztunnel::from(&pairs.iter().copied().collect()).unwrap()
}

fn error(pairs: &[(&str, &str)]) -> String {
    Ztunnel::from(&pairs.iter().copied().collect()).unwrap_err().to_string()
}

#[test]
fn defaults_are_those_of_the_documentation() {
    table::read_all(&Lookup::from_iter([("", "")])).unwrap();
    let config = ztunnel(&[]);
    assert_eq!(config.in_pod.mark, 0x539);
    assert_eq!(config.own.cluster_id, "Kubernetes");
    assert_eq!(config.secret_ttl, Duration::from_secs(86_400));
    assert_eq!(config.xds.unwrap().address.to_string(), "https://localhost:15012");
    assert_eq!(config.drain_deadline, Duration::from_secs(5));
    assert_eq!(config.token, Token::None);
    assert_eq!(config.ports, Ports { admin: 15000, stats: 15020, readiness: 15021 });
    assert_eq!(config.keepalive.unwrap().retries, 9);
}

#[test]
fn a_malformed_value_names_variable_found_and_expected() {
    let cases = [
        ("SECRET_TTL", "24", "SECRET_TTL: \"24\" is not a duration such as 24h, 5m, 1m30s or 250ms"),
        ("IPV6_ENABLED", "yes", "IPV6_ENABLED: \"yes\" is not true or false"),
        ("PACKET_MARK", "0x539", "PACKET_MARK: \"0x539\" is not an integer from 0 to 4294967295"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT: \"xml\" is not plain or json"),
        ("PROXY_MODE", "dedicated", "PROXY_MODE: \"dedicated\" is not shared"),
        ("HTTP2_FRAME_SIZE", "1", "HTTP2_FRAME_SIZE: \"1\" is not a size from 16384 to 16777215 bytes"),
        ("INSTANCE_IP", "here", "INSTANCE_IP: \"here\" is not an IP address"),
        ("POOL_MAX_STREAMS_PER_CONNECTION", "0", "POOL_MAX_STREAMS_PER_CONNECTION: \"0\" is not at least 1"),
        (
            "ISTIO_METAJSON_X",
            "{",
            "ISTIO_METAJSON_X is not a valid document: EOF while parsing an object at line 1 column 1",
        ),
    ];
    for (name, value, expected) in cases {
        assert_eq!(error(&[(name, value)]), expected);
    }
}

#[test]
fn what_would_weaken_security_if_ignored_is_refused() {
    assert_eq!(ztunnel(&[("COMPLIANCE_POLICY", "pqc")]).compliance_policy, Some(CompliancePolicy::Pqc));
    assert_eq!(error(&[("COMPLIANCE_POLICY", "fips-140-2")]), "COMPLIANCE_POLICY: \"fips-140-2\" is not pqc");
    let both = error(&[("COMPLIANCE_POLICY", "pqc"), ("TLS12_ENABLED", "true")]);
    assert!(both.starts_with("TLS12_ENABLED=\"true\" is not supported"), "{both}");
    let dedicated = error(&[("PROXY_MODE", "dedicated")]);
    assert_eq!(dedicated, "PROXY_MODE: \"dedicated\" is not shared");
}

#[test]
fn revocation_certificates_and_pods_are_as_they_were_asked_for() {
    let config = ztunnel(&[]);
    assert_eq!((config.revocation_lists, config.fake_ca, config.serves_pods), (None, false, true));
    assert!(config.local_application_tunnel && !config.in_pod.socks);
    let config = ztunnel(&[("CRL_PATH", "/crl.pem"), ("FAKE_CA", "true"), ("ENABLE_PROXY", "false")]);
    assert_eq!((config.revocation_lists, config.fake_ca, config.serves_pods), (Some("/crl.pem".into()), true, false));
    assert_eq!(ztunnel(&[("CRL_PATH", "")]).revocation_lists, None);
    let config = ztunnel(&[("LOCALHOST_APP_TUNNEL", "false"), ("UNSTABLE_ENABLE_SOCKS5", "true")]);
    assert!(!config.local_application_tunnel && config.in_pod.socks);
}

#[test]
fn discovery_on_demand_and_name_lookups_exclude_each_other() {
    let both = error(&[("XDS_ON_DEMAND", "true")]);
    assert!(both.starts_with("XDS_ON_DEMAND=\"true\" is not supported"), "{both}");
    assert!(ztunnel(&[("XDS_ON_DEMAND", "true"), ("ISTIO_META_DNS_CAPTURE", "false")]).on_demand);
    assert!(!ztunnel(&[]).on_demand);
}

#[test]
fn what_is_not_honoured_is_named() {
    let config = ztunnel(&[("LOCAL_XDS_PATH", "/x.yaml")]);
    assert_eq!(config.not_honoured, [("LOCAL_XDS_PATH", "discovery comes from the control plane alone")]);
}

#[test]
fn discovery_is_found_in_the_documented_order() {
    let address = |pairs: &[(&str, &str)]| ztunnel(pairs).xds.map(|xds| xds.address.to_string());
    let in_cluster = ("KUBERNETES_SERVICE_HOST", "10.96.0.1");
    let proxy_config = ("PROXY_CONFIG", "discoveryAddress: istiod.istio-system.svc:15012");
    assert_eq!(address(&[in_cluster]).unwrap(), "https://aquifer.aquifer-system.svc:15012");
    assert_eq!(address(&[in_cluster, proxy_config]).unwrap(), "https://istiod.istio-system.svc:15012");
    assert_eq!(address(&[proxy_config, ("XDS_ADDRESS", "http://127.0.0.1:1")]).unwrap(), "http://127.0.0.1:1");
    assert_eq!(address(&[proxy_config, ("XDS_ADDRESS", "")]), None);
}

#[test]
fn the_proxy_config_variable_goes_before_the_mesh_file() {
    let lookup =
        Lookup::from_iter([("PROXY_CONFIG", "statsPort: 2\nproxyMetadata: {B: '2', C: '2'}"), ("ISTIO_META_C", "3")])
            .with_mesh_file("defaultConfig:\n  statsPort: 1\n  proxyAdminPort: 1\n  proxyMetadata: {A: '1', B: '1'}\n");
    let config = Ztunnel::from(&lookup).unwrap();
    assert_eq!((config.ports.admin, config.ports.stats), (1, 2));
    let metadata: Vec<_> = config.own.metadata.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(metadata, ["A=\"1\"", "B=\"2\"", "C=\"3\""]);
}

#[test]
fn a_malformed_mesh_file_is_refused_with_its_place() {
    let lookup = Lookup::from_iter([("A", "")]).with_mesh_file("defaultConfig:\n  statsPort: many\n");
    let error = Ztunnel::from(&lookup).unwrap_err().to_string();
    assert!(error.contains("./etc/istio/config/mesh") && error.contains('2'), "{error}");
}

#[test]
fn worker_threads_follow_the_rule() {
    let threads = |pairs: &[(&str, &str)], cpus| {
        let lookup: Lookup = pairs.iter().copied().collect();
        Ztunnel::from(&lookup.with_cpus(NonZero::new(cpus).unwrap())).unwrap().worker_threads
    };
    assert_eq!(threads(&[], 2), 2);
    assert_eq!(threads(&[], 1), 2);
    assert_eq!(threads(&[], 32), 8);
    assert_eq!(threads(&[], 33), 9);
    assert_eq!(threads(&[("ZTUNNEL_WORKER_THREADS", "0")], 6), 6);
    assert_eq!(threads(&[("ZTUNNEL_WORKER_THREADS", "1")], 6), 1);
    assert_eq!(threads(&[("ZTUNNEL_WORKER_THREADS", "10%")], 32), 4);
    assert_eq!(threads(&[("ZTUNNEL_WORKER_THREADS", "50%"), ("ZTUNNEL_CPU_LIMIT", "4")], 32), 2);
    assert_eq!(threads(&[("PROXY_CONFIG", "concurrency: 3")], 32), 3);
    assert_eq!(threads(&[("ZTUNNEL_RESOURCE_CPU_LIMIT", "1500m"), ("ZTUNNEL_RESOURCE_CPU_REQUEST", "3")], 32), 3);
    assert_eq!(threads(&[("ZTUNNEL_RESOURCE_CPU_LIMIT", "500m")], 32), 1);
    assert_eq!(threads(&[("ZTUNNEL_RESOURCE_CPU_REQUEST", "5")], 8), 5);
}

#[test]
fn the_drain_deadline_follows_the_grace_period() {
    let seconds = |pairs: &[(&str, &str)]| ztunnel(pairs).drain_deadline.as_secs();
    assert_eq!(seconds(&[("TERMINATION_GRACE_PERIOD_SECONDS", "30")]), 25);
    assert_eq!(seconds(&[("TERMINATION_GRACE_PERIOD_SECONDS", "10")]), 9);
    assert_eq!(seconds(&[("TERMINATION_GRACE_PERIOD_SECONDS", "1")]), 1);
    assert_eq!(seconds(&[("TERMINATION_GRACE_PERIOD_SECONDS", "30"), ("CONNECTION_TERMINATION_DEADLINE", "2s")]), 2);
}

#[test]
fn a_dump_holds_no_secret() {
    let config = ztunnel(&[("AUTH_TOKEN", "ey.secret.token"), ("XDS_HEADER_X_KEY", "secret")]);
    assert_eq!(config.xds.as_ref().unwrap().headers, [("x_key".to_owned(), "secret".to_owned())]);
    let dump = serde_json::to_string(&config).unwrap();
    assert!(!dump.contains("secret") || !dump.contains("ey."), "{dump}");
    assert!(!dump.contains("\"secret\""), "{dump}");
}
