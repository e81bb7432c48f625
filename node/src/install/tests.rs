//! The installation in directories of its own: what it writes, mends, leaves alone and takes away.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use tokio::time::timeout;

use super::*;

const FOREIGN: &str = r#"{"cniVersion":"1.0.0","name":"cluster","plugins":[{"type":"ptp"},{"type":"portmap"}]}"#;

struct Host {
    directory: tempfile::TempDir,
    installation: Installation,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("program");
        std::fs::write(&source, "#!/bin/sh\n").unwrap();
        let installation = Installation {
            network_dir: directory.path().join("net.d"),
            binary: Binary::new(source, directory.path().join("bin")),
            run_dir: directory.path().join("run"),
            entry: serde_json::from_str(r#"{"type":"aquifer-cni","cni_agent_run_dir":"/run"}"#).unwrap(),
            api: None,
            token: PluginToken::default(),
        };
        std::fs::create_dir(&installation.network_dir).unwrap();
        Self { directory, installation }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn types(&self, name: &str) -> Vec<String> {
        let network = network::read(&self.path(name)).unwrap();
        network.plugins.iter().map(|plugin| network::type_of(plugin).unwrap().to_owned()).collect()
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = ["net.d", "bin", "run"].into_iter().filter_map(|name| std::fs::read_dir(self.path(name)).ok());
        files
            .flatten()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect()
    }

    fn ensure(&self) -> Installed {
        self.installation.ensure().unwrap()
    }
}

#[test]
fn everything_is_put_in_place_once() {
    let host = Host::new();
    assert_eq!(host.ensure(), Installed::NoNetwork);
    host.write("net.d/10-cluster.conflist", FOREIGN);
    std::fs::set_permissions(host.path("net.d/10-cluster.conflist"), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(host.ensure(), Installed::Now);
    assert_eq!(host.types("net.d/10-cluster.conflist"), ["ptp", "portmap", "aquifer-cni"]);
    assert_eq!(whole::mode(&host.path("net.d/10-cluster.conflist")), Some(0o640), "the mode stays");
    assert_eq!(whole::mode(&host.path("bin/aquifer-cni")), Some(0o755));
    let files = host.files();
    assert_eq!(host.ensure(), Installed::Already);
    assert_eq!(host.files(), files);
}

#[test]
fn what_another_program_overwrites_is_mended() {
    let host = Host::new();
    host.write("net.d/10-cluster.conflist", FOREIGN);
    host.ensure();
    host.write("net.d/10-cluster.conflist", FOREIGN);
    assert_eq!(host.ensure(), Installed::Now);
    assert_eq!(host.types("net.d/10-cluster.conflist"), ["ptp", "portmap", "aquifer-cni"]);
    // A network that comes first by name counts from then on.
    host.write("net.d/05-new.conf", r#"{"cniVersion":"0.4.0","name":"new","type":"bridge"}"#);
    assert_eq!(host.ensure(), Installed::Now);
    assert_eq!(host.types("net.d/05-new.conflist"), ["bridge", "aquifer-cni"]);
    assert!(!host.path("net.d/05-new.conf").exists(), "it would come before the list");
    // Binary and plugin go missing or are other ones.
    std::fs::remove_file(host.path("bin/aquifer-cni")).unwrap();
    assert_eq!(host.ensure(), Installed::Now);
    host.write("bin/aquifer-cni", "#!/bin/no\n");
    assert_eq!(host.ensure(), Installed::Now);
    assert_eq!(std::fs::read_to_string(host.path("bin/aquifer-cni")).unwrap(), "#!/bin/sh\n");
}

#[test]
fn a_plugin_that_came_after_ours_may_stay_there_but_ours_is_never_first() {
    let host = Host::new();
    let entry = serde_json::to_value(&host.installation.entry).unwrap();
    let list = |plugins: Value| serde_json::json!({"name": "n", "cniVersion": "1.0.0", "plugins": plugins}).to_string();
    host.write("net.d/1.conflist", &list(serde_json::json!([{"type": "ptp"}, entry, {"type": "late"}])));
    host.ensure();
    assert_eq!(host.types("net.d/1.conflist"), ["ptp", "aquifer-cni", "late"]);
    host.write("net.d/1.conflist", &list(serde_json::json!([entry, {"type": "ptp"}, entry])));
    host.ensure();
    assert_eq!(host.types("net.d/1.conflist"), ["ptp", "aquifer-cni"]);
}

#[test]
fn a_half_written_network_is_passed_over_and_left_alone() {
    let host = Host::new();
    let half = &FOREIGN[..40];
    host.write("net.d/10-cluster.conflist", half);
    assert_eq!(host.ensure(), Installed::NoNetwork);
    assert_eq!(std::fs::read_to_string(host.path("net.d/10-cluster.conflist")).unwrap(), half);
    // What an agent left that was killed while it wrote does no harm either.
    host.write("net.d/.10-cluster.conflist.aquifer-new", "{");
    host.write("net.d/10-cluster.conflist", FOREIGN);
    assert_eq!(host.ensure(), Installed::Now);
    assert!(!host.path("net.d/.10-cluster.conflist.aquifer-new").exists());
}

#[test]
fn a_full_disk_leaves_what_was() {
    let host = Host::new();
    host.write("net.d/10-cluster.conflist", FOREIGN);
    struct Failing;
    impl io::Read for Failing {
        fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
    }
    let path = host.path("net.d/10-cluster.conflist");
    let error = whole::copy(&mut Failing, &path, MODE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("10-cluster.conflist"), "{error}");
    assert_eq!(host.files().into_values().collect::<Vec<_>>(), [FOREIGN.as_bytes()]);
}

#[test]
fn removal_leaves_the_network_of_others() {
    let host = Host::new();
    host.write("net.d/10-cluster.conflist", FOREIGN);
    std::fs::set_permissions(host.path("net.d/10-cluster.conflist"), std::fs::Permissions::from_mode(0o644)).unwrap();
    host.write(
        "net.d/20-other.conflist",
        r#"{"name":"o","cniVersion":"1.0.0","plugins":[{"type":"x"},{"type":"aquifer-cni"}]}"#,
    );
    host.ensure();
    std::fs::create_dir_all(host.path("run")).unwrap();
    host.write("run/aquifer-cni-kubeconfig", "{}");
    host.installation.remove().unwrap();
    assert_eq!(host.types("net.d/10-cluster.conflist"), ["ptp", "portmap"]);
    assert_eq!(host.types("net.d/20-other.conflist"), ["x"]);
    assert_eq!(whole::mode(&host.path("net.d/10-cluster.conflist")), Some(0o644), "the mode stays");
    assert_eq!(host.files().len(), 2, "{:?}", host.files());
    host.installation.remove().unwrap();
}

#[tokio::test]
async fn an_overwritten_network_is_mended_at_once() {
    let host = Host::new();
    host.write("net.d/10-cluster.conflist", FOREIGN);
    let readiness = drain::Readiness::new();
    let registry = telemetry::Registry::new();
    let (installation, metrics) = (host.installation.clone(), PluginMetrics::new(&registry));
    let started = readiness.task("plugin");
    let keeper = tokio::spawn(async move { installation.keep(started, &metrics, std::future::pending()).await });
    timeout(Duration::from_secs(5), readiness.ready()).await.unwrap();
    for _ in 0..3 {
        host.write("net.d/10-cluster.conflist", FOREIGN);
        let mended = async {
            while host.types("net.d/10-cluster.conflist").len() < 3 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(2), mended).await.expect("sooner than the next look without being told");
    }
    let text = registry.text();
    assert!(text.contains("istio_cni_installs_total{result=\"SUCCESS\"}"), "{text}");
    assert!(text.contains("istio_cni_install_ready 1"), "{text}");
    keeper.abort();
}
