//! Bytes on their way, in memory and on one thread.

use std::time::Duration;

use anyhow::Result;
use io::{Counters, copy_bidirectional};
use tls::{Authority, CertificateRequest, WorkloadCertificate};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::runtime::Builder;
use types::Identity;

/// As many bytes as a full record carries.
const CHUNK: usize = 16 << 10;

/// As much as a stream in memory holds.
const STREAM: usize = 8 * CHUNK;

/// A record of a mesh connection, written and read.
pub(crate) fn seal_and_open(times: u32) -> Result<()> {
    let identity: Identity = "spiffe://cluster.local/ns/shop/sa/cart".parse()?;
    let certificate = certificate(&identity)?;
    let (near, far) = duplex(STREAM);
    Builder::new_current_thread().build()?.block_on(async {
        let expected = [identity];
        let (client, server) =
            tokio::try_join!(tls::connect(near, &certificate, &expected), tls::accept(far, &certificate))?;
        let ((mut client, _), (mut server, _)) = (client, server);
        let mut chunk = vec![7; CHUNK];
        for _ in 0..times {
            client.write_all(&chunk).await?;
            client.flush().await?;
            server.read_exact(&mut chunk).await?;
        }
        Ok(())
    })
}

fn certificate(identity: &Identity) -> Result<WorkloadCertificate> {
    let hour = Duration::from_secs(3600);
    let authority = Authority::self_signed(&identity.trust_domain, hour)?;
    let request = CertificateRequest::generate(identity)?;
    let chain = authority.sign_csr(request.csr_pem(), identity, hour)?;
    Ok(request.complete(&chain)?)
}

/// A chunk that is copied from one stream to another.
pub(crate) fn copy(times: u32) -> Result<()> {
    let ((mut client, downstream), (upstream, mut server)) = (duplex(STREAM), duplex(STREAM));
    Builder::new_current_thread().enable_time().build()?.block_on(async {
        let counters = Counters::new();
        let drive = async {
            let mut chunk = vec![7; CHUNK];
            for _ in 0..times {
                client.write_all(&chunk).await?;
                server.read_exact(&mut chunk).await?;
            }
            // Both ends close, and the copy is over.
            drop((client, server));
            Ok::<_, std::io::Error>(())
        };
        let (copied, driven) = tokio::join!(copy_bidirectional(downstream, upstream, &counters), drive);
        driven?;
        Ok(copied?)
    })
}
