//! A response is taken in one way, however large it is.

use proto::istio::workload as wire;

use super::*;

/// Workloads and services by turns; every hundredth resource is bad.
fn resources(count: usize) -> Vec<(Arc<str>, Vec<u8>)> {
    let resource = |number: usize| {
        let name = if number.is_multiple_of(2) { format!("uid-{number}") } else { format!("shop/s-{number}.shop") };
        let content = if number.is_multiple_of(2) {
            wire::address::Type::Workload(wire::Workload {
                uid: name.clone(),
                addresses: vec![u32::try_from(number).unwrap().to_be_bytes().to_vec().into()],
                services: [(format!("shop/s-{}.shop", number / 20 * 20 + 1), wire::PortList::default())].into(),
                ..Default::default()
            })
        } else {
            wire::address::Type::Service(wire::Service {
                namespace: "shop".to_owned(),
                hostname: format!("s-{number}.shop"),
                ..Default::default()
            })
        };
        let mut encoded = Address { r#type: Some(content) }.encode_to_vec();
        if number.is_multiple_of(100) {
            encoded.pop();
        }
        (Arc::from(name), encoded)
    };
    (0..count).map(resource).collect()
}

/// Feeds the resources by parts of this size.
fn fed(resources: &[(Arc<str>, Vec<u8>)], part: usize) -> (discovery::View, Vec<Rejected>) {
    let writer = Writer::new("", None);
    let view = writer.view();
    let mut feed = AddressFeed::new(writer);
    let parts = resources.chunks(part).map(|part| {
        let mut resources = part.iter().map(|(name, encoded)| (Arc::clone(name), Some(&**encoded)));
        feed.apply(Update { resources: &mut resources, removed: &["uid-2"] })
    });
    let rejected = parts.flatten().collect();
    (view, rejected)
}

#[test]
fn a_large_response_is_taken_in_as_small_ones_are() {
    let resources = resources(MANY);
    let (large, refused) = fed(&resources, MANY);
    let (small, refused_by_parts) = fed(&resources, MANY / 8);
    assert_eq!(refused, refused_by_parts);
    assert_eq!(refused.len(), MANY.div_ceil(100));
    assert_eq!((large.workloads(), large.services()), (small.workloads(), small.services()));
    assert_eq!(large.workloads().len(), MANY / 2 - refused.len() - 1);
    for service in large.services() {
        assert_eq!(large.endpoints(&service.key()), small.endpoints(&service.key()), "{}", service.hostname);
    }
    assert_eq!(large.endpoints(&"shop/s-21.shop".parse().unwrap()).len(), 10);
}
