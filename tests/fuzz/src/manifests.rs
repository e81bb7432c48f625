//! Manifests that people write.

use kinds::{AuthorizationPolicy, PeerAuthentication, check, manifest};

pub(crate) fn run(bytes: &[u8]) {
    let Ok(objects) = manifest::read(&crate::text(bytes)) else { return };
    for object in objects {
        for finding in check::object(&object) {
            assert!(!finding.message().is_empty());
        }
        let _ = kinds::typed::<AuthorizationPolicy>(&object);
        let _ = kinds::typed::<PeerAuthentication>(&object);
    }
}
