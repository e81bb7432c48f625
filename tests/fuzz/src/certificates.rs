//! Certificates of peers and requests for certificates.

use tls::{CertificateDetails, SigningRequest};

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    let _ = CertificateDetails::from_pem(&text);
    if let Ok(request) = SigningRequest::parse(&text) {
        let _ = request.names().len();
    }
}
