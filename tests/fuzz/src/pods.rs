//! Messages between node agent and node proxy.

use zds::{Ack, Hello, Request};

pub(crate) fn run(bytes: &[u8]) {
    if let Ok(hello) = Hello::decode(bytes) {
        assert!(Hello::decode(&hello.encode()).is_ok_and(|again| again == hello));
    }
    if let Ok(ack) = Ack::decode(bytes) {
        assert!(Ack::decode(&ack.encode()).is_ok_and(|again| again == ack));
    }
    if let Ok(request) = Request::decode(bytes, None) {
        assert!(!matches!(request, Request::Add { .. }), "a pod without a network namespace");
        let written = request.encode().map(|(bytes, descriptor)| (bytes, descriptor.is_some()));
        let Ok((written, false)) = written else { panic!("{written:?}") };
        assert!(Request::decode(&written, None).is_ok());
    }
}
