//! A mesh that lives through a rotation: simulated time, real certificates and real handshakes.

use tls::{CertificateRequest, WorkloadCertificate};
use types::{Identity, TrustDomain};

use super::*;

/// The validity of every certificate here; the handshakes themselves see certificates that last for hours.
const VALIDITY: Duration = Duration::from_secs(100);

fn pem() -> AuthorityPem {
    Authority::self_signed(&TrustDomain::default(), Duration::from_secs(3650 * 86_400)).unwrap().to_pem()
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000 + second)
}

fn roots(rotation: &Rotation) -> usize {
    rotation.authority().unwrap().roots_pem().matches("BEGIN CERTIFICATE").count()
}

fn identity(index: usize) -> Identity {
    format!("spiffe://cluster.local/ns/shop/sa/app-{index}").parse().unwrap()
}

fn issue(authority: &Authority, identity: &Identity) -> WorkloadCertificate {
    let request = CertificateRequest::generate(identity).unwrap();
    let chain = authority.sign_csr(request.csr_pem(), identity, Duration::from_secs(3600)).unwrap();
    request.complete(&chain).unwrap()
}

async fn connects(client: &WorkloadCertificate, server: &WorkloadCertificate) -> bool {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let expected = [server.identity().clone()];
    let both = async { tokio::join!(tls::connect(near, client, &expected), tls::accept(far, server)) };
    let (client, server) = both.await;
    client.is_ok() && server.is_ok()
}

/// A workload that renews its certificate when this share of its validity is over, in percent.
struct Workload {
    identity: Identity,
    patience: u64,
    held: WorkloadCertificate,
    renews: u64,
}

/// Lets workloads live for `seconds` while the operator replaces the authority; panics where two do not connect.
async fn live(mut rotation: Rotation, replacements: &[(u64, AuthorityPem)], seconds: u64) -> Rotation {
    let first = rotation.authority().unwrap();
    let mut workloads: Vec<Workload> = [(0, 50), (13, 50), (31, 100), (47, 100), (59, 75)]
        .into_iter()
        .enumerate()
        .map(|(index, (renews, patience))| {
            let identity = identity(index);
            Workload { held: issue(&first, &identity), identity, patience, renews }
        })
        .collect();
    for second in 0..seconds {
        if let Some((_, wanted)) = replacements.iter().find(|(when, _)| *when == second) {
            rotation.want(wanted.clone(), at(second)).unwrap();
        }
        let mut is_new = rotation.advance(at(second));
        // What is kept is what a replica that starts now reads.
        rotation = Rotation::from_data(&rotation.to_data()).unwrap();
        for workload in workloads.iter_mut().filter(|workload| workload.renews <= second) {
            workload.held = issue(&rotation.authority().unwrap(), &workload.identity);
            workload.renews = second + VALIDITY.as_secs() * workload.patience / 100;
            is_new = true;
        }
        if !is_new {
            continue;
        }
        for client in &workloads {
            for server in &workloads {
                assert!(
                    connects(&client.held, &server.held).await,
                    "{} does not reach {} after {second} s: {}",
                    client.identity,
                    server.identity,
                    rotation.phase()
                );
            }
        }
    }
    rotation
}

#[tokio::test]
async fn workloads_always_connect_while_the_root_is_replaced() {
    let (old, new) = (pem(), pem());
    let rotation = Rotation::begin(old, VALIDITY).unwrap();
    let rotation = live(rotation, &[(70, new.clone())], 400).await;
    assert_eq!(rotation.signing.pem, new);
    assert_eq!((roots(&rotation), rotation.due()), (1, None), "the old root is gone in the end");
}

#[tokio::test]
async fn workloads_always_connect_when_the_operator_changes_their_mind_twice() {
    let (first, second, third) = (pem(), pem(), pem());
    let rotation = Rotation::begin(first.clone(), VALIDITY).unwrap();
    // Back before the second has signed; then on to the third, and to the second while the first is still about.
    let replacements = [(20, second.clone()), (60, first), (90, third), (215, second.clone())];
    let rotation = live(rotation, &replacements, 600).await;
    assert_eq!(rotation.signing.pem, second);
    assert_eq!(roots(&rotation), 1);
}

/// The tests above can fail: this is what happens without the steps between.
#[tokio::test]
async fn without_the_steps_between_workloads_do_not_connect() {
    let [old, new] = [pem(), pem()].map(|pem| Rotation::begin(pem, VALIDITY).unwrap().authority().unwrap());
    assert!(!connects(&issue(&old, &identity(0)), &issue(&new, &identity(1))).await);
}

#[test]
fn roots_come_first_then_the_signer_and_the_old_root_goes_last() {
    let (old, new) = (pem(), pem());
    let mut rotation = Rotation::begin(old.clone(), VALIDITY).unwrap();
    assert_eq!((roots(&rotation), rotation.due()), (1, None));
    rotation.want(new.clone(), at(0)).unwrap();
    assert_eq!((&rotation.signing.pem, roots(&rotation)), (&old, 2));
    assert_eq!(rotation.due(), Some(at(110)), "a tenth more for clocks that differ");
    rotation.want(new.clone(), at(50)).unwrap();
    assert_eq!(rotation.due(), Some(at(110)), "the same wish again starts nothing anew");
    assert!(!rotation.advance(at(109)));
    assert!(rotation.advance(at(110)));
    assert_eq!((&rotation.signing.pem, roots(&rotation)), (&new, 2));
    assert_eq!(rotation.due(), Some(at(220)));
    assert!(rotation.advance(at(220)));
    assert_eq!((&rotation.signing.pem, roots(&rotation), rotation.due()), (&new, 1, None));
}

#[test]
fn an_authority_that_is_taken_back_in_time_leaves_no_trace() {
    let old = pem();
    let mut rotation = Rotation::begin(old.clone(), VALIDITY).unwrap();
    rotation.want(pem(), at(0)).unwrap();
    rotation.want(old.clone(), at(60)).unwrap();
    assert_eq!((&rotation.signing.pem, roots(&rotation), rotation.due()), (&old, 1, None));
}

#[test]
fn another_key_below_the_same_root_signs_at_once() {
    let first = pem();
    let mut rotation = Rotation::begin(first.clone(), VALIDITY).unwrap();
    // The operator renamed nothing but added a root: that one is distributed, and nothing waits for it but itself.
    let both =
        AuthorityPem { certificate: format!("{}{}", first.certificate, pem().certificate), key: first.key.clone() };
    rotation.want(both.clone(), at(0)).unwrap();
    assert_eq!((&rotation.signing.pem, roots(&rotation)), (&first, 2));
    rotation.advance(at(110));
    assert_eq!((&rotation.signing.pem, roots(&rotation)), (&both, 2));
    // The other way round, nothing has to be distributed; the root that goes is kept for a while.
    rotation.want(first.clone(), at(200)).unwrap();
    assert_eq!((&rotation.signing.pem, roots(&rotation), rotation.due()), (&first, 2, Some(at(310))));
}

#[test]
fn longer_certificates_are_waited_for() {
    let mut rotation = Rotation::begin(pem(), VALIDITY).unwrap();
    assert!(!rotation.grow(Duration::from_secs(100)));
    assert!(rotation.grow(Duration::from_secs(1000)));
    assert!(!rotation.grow(Duration::from_secs(10)));
    let mut rotation = Rotation::from_data(&rotation.to_data()).unwrap();
    rotation.want(pem(), at(0)).unwrap();
    assert_eq!(rotation.due(), Some(at(1100)));
}

#[test]
fn a_broken_record_is_refused_and_names_what_is_wrong() {
    let data = Rotation::begin(pem(), VALIDITY).unwrap().to_data();
    for key in data.keys() {
        let mut less = data.clone();
        less.remove(key);
        assert!(Rotation::from_data(&less).unwrap_err().to_string().contains(key.as_str()));
    }
    let mut broken = data;
    broken.insert("state.json".to_owned(), ByteString(b"{}".to_vec()));
    assert!(matches!(Rotation::from_data(&broken).unwrap_err(), RecordError::State(_)));
}
