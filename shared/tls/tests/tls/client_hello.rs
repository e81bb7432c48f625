//! What a mesh client says first, read off the wire by hand (RFC 8446, section 4.1.2).

use crate::support::*;
use tokio::io::{AsyncReadExt, duplex};
use tokio::time::timeout;

/// Cuts a length-prefixed vector off the front.
fn vector<'a>(bytes: &mut &'a [u8], prefix: usize) -> &'a [u8] {
    let length = bytes[..prefix].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (vector, rest) = bytes[prefix..].split_at(length);
    *bytes = rest;
    vector
}

fn numbers(mut bytes: &[u8]) -> Vec<u16> {
    let mut numbers = Vec::new();
    while let [high, low, rest @ ..] = bytes {
        numbers.push(u16::from_be_bytes([*high, *low]));
        bytes = rest;
    }
    numbers
}

struct Hello {
    session_id: Vec<u8>,
    cipher_suites: Vec<u16>,
    extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    fn parse(handshake: &[u8]) -> Self {
        // Type, three bytes of length, legacy version, random.
        let mut rest = &handshake[4 + 2 + 32..];
        let session_id = vector(&mut rest, 1).to_vec();
        let cipher_suites = numbers(vector(&mut rest, 2));
        vector(&mut rest, 1);
        let mut list = vector(&mut rest, 2);
        let mut extensions = Vec::new();
        while !list.is_empty() {
            let kind = numbers(&list[..2])[0];
            list = &list[2..];
            extensions.push((kind, vector(&mut list, 2).to_vec()));
        }
        Self { session_id, cipher_suites, extensions }
    }

    fn extension(&self, kind: u16) -> Option<&[u8]> {
        self.extensions.iter().find(|(other, _)| *other == kind).map(|(_, body)| body.as_slice())
    }
}

async fn hello() -> Hello {
    let client = TestCa::new().workload(FRONTEND);
    let (near, mut far) = duplex(1 << 16);
    let expected = [CART.parse().unwrap()];
    let read = async {
        let mut header = [0; 5];
        far.read_exact(&mut header).await.unwrap();
        assert_eq!(header[0], 22, "not a handshake record");
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        far.read_exact(&mut body).await.unwrap();
        Hello::parse(&body)
    };
    tokio::select! {
        _ = tls::connect(near, &client, &expected) => panic!("nobody answered"),
        hello = timeout(DEADLINE, read) => hello.unwrap(),
    }
}

#[tokio::test]
async fn a_client_offers_what_the_mesh_speaks_and_nothing_else() {
    let hello = hello().await;
    // AES-128-GCM, AES-256-GCM; the last is TLS_EMPTY_RENEGOTIATION_INFO_SCSV where a library adds it.
    let suites: Vec<_> = hello.cipher_suites.into_iter().filter(|suite| *suite != 0x00ff).collect();
    assert_eq!(suites, [0x1301, 0x1302]);
}

#[tokio::test]
async fn a_client_prefers_the_post_quantum_key_exchange() {
    let hello = hello().await;
    let groups = hello.extension(10).unwrap();
    assert_eq!(numbers(&groups[2..]), [0x11ec, 29, 23, 24]);
    // The key share is there from the start: no second round trip.
    let shares = hello.extension(51).unwrap();
    assert_eq!(numbers(&shares[2..4]), [0x11ec]);
}

#[tokio::test]
async fn a_client_speaks_only_tls_1_3_and_h2() {
    let hello = hello().await;
    assert_eq!(hello.extension(43).unwrap(), [2, 3, 4]);
    assert_eq!(hello.extension(16).unwrap(), b"\x00\x03\x02h2");
}

#[tokio::test]
async fn a_client_sends_no_server_name_and_resumes_nothing() {
    let hello = hello().await;
    assert_eq!(hello.extension(0), None, "server_name");
    assert_eq!(hello.extension(41), None, "pre_shared_key");
    assert_eq!(hello.extension(42), None, "early_data");
    assert_eq!(hello.extension(35), None, "session_ticket");
    drop(hello.session_id);
}
