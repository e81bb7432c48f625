//! Workloads of one kind, understood once.
//!
//! The pods of a deployment differ in a handful of fields. What all the others say is converted when it is seen first;
//! whoever says the same, byte by byte, is of that kind. Whatever is out of the ordinary is left to the long way, which
//! names what is wrong with it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use discovery::{Addresses, Health, Instance, Kind, Locality, Maker, Record};
use prost::Message;
use proto::istio::workload as wire;

use crate::convert;
use crate::wire::{Fields, Undecodable};

/// The kinds of one response.
#[derive(Default)]
pub(super) struct Kinds {
    /// Places in `kinds` by the encoding of what they have in common.
    places: HashMap<Box<[u8]>, usize, foldhash::quality::RandomState>,
    kinds: Vec<Kind>,
    localities: HashMap<Box<[u8]>, Arc<Locality>, foldhash::quality::RandomState>,
    common: Vec<u8>,
}

/// The fields of a workload that are its own.
#[derive(Default)]
struct Own<'a> {
    uid: &'a str,
    name: &'a str,
    address: Option<IpAddr>,
    more_addresses: Vec<IpAddr>,
    node: &'a str,
    status: u64,
    locality: &'a [u8],
}

impl Kinds {
    /// The record of the workload; `None` when it takes the long way.
    pub(super) fn record(&mut self, maker: &mut Maker<'_>, name: &Arc<str>, encoded: &[u8]) -> Option<Record> {
        let workload = sole_workload(encoded)?;
        self.common.clear();
        let own = Own::split(workload, &mut self.common).ok()??;
        let health = match own.status {
            0 => Health::Healthy,
            1 => Health::Unhealthy,
            _ => return None,
        };
        if *own.uid != **name {
            return None;
        }
        let locality = self.locality(maker, own.locality)?;
        let kind = self.kind(maker)?;
        let instance = Instance {
            uid: Arc::clone(name).into(),
            name: Arc::from(own.name),
            addresses: own.addresses(),
            node: maker.text(own.node),
            locality,
            health,
        };
        Some(maker.instance(kind, instance))
    }

    fn kind(&mut self, maker: &mut Maker<'_>) -> Option<&Kind> {
        if let Some(place) = self.places.get(&*self.common) {
            return self.kinds.get(*place);
        }
        let common = wire::Workload::decode(&*self.common).ok()?;
        // Any uid will do: each instance has its own.
        let workload = convert::workload(wire::Workload { uid: "kind".to_owned(), ..common }).ok()?;
        self.places.insert(Box::from(&*self.common), self.kinds.len());
        self.kinds.push(maker.kind(workload));
        self.kinds.last()
    }

    fn locality(&mut self, maker: &mut Maker<'_>, encoded: &[u8]) -> Option<Arc<Locality>> {
        if let Some(locality) = self.localities.get(encoded) {
            return Some(Arc::clone(locality));
        }
        let locality = maker.locality(convert::locality(wire::Locality::decode(encoded).ok()?));
        self.localities.insert(Box::from(encoded), Arc::clone(&locality));
        Some(locality)
    }
}

impl<'a> Own<'a> {
    /// Takes the own fields out of a workload and adds the encoding of all others to `common`.
    ///
    /// `None` when there is something that the long way should see.
    fn split(encoded: &'a [u8], common: &mut Vec<u8>) -> Result<Option<Self>, Undecodable> {
        let mut own = Self::default();
        // What lies between own fields is copied in one piece.
        let (mut copied, mut end) = (0, 0);
        for field in Fields::of(encoded) {
            let field = field?;
            let start = end;
            end += field.encoded.len();
            match field.tag {
                1 => own.name = field.text()?,
                3 => match convert::ip("addresses", field.bytes()?) {
                    Ok(address) if own.address.is_none() => own.address = Some(address),
                    Ok(address) => own.more_addresses.push(address),
                    Err(_malformed) => return Ok(None),
                },
                9 => own.node = field.text()?,
                17 => own.status = field.number()?,
                20 => own.uid = field.text()?,
                // A message in two parts is one of its own.
                24 if !own.locality.is_empty() => return Ok(None),
                24 => own.locality = field.bytes()?,
                _ => continue,
            }
            common.extend_from_slice(encoded.get(copied..start).unwrap_or_default());
            copied = end;
        }
        common.extend_from_slice(encoded.get(copied..).unwrap_or_default());
        Ok(Some(own))
    }

    fn addresses(&self) -> Addresses {
        match (self.address, &*self.more_addresses) {
            (Some(only), []) => only.into(),
            (first, more) => first.into_iter().chain(more.iter().copied()).collect(),
        }
    }
}

/// The workload inside an `Address` in which there is nothing else.
fn sole_workload(encoded: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields::of(encoded);
    let field = fields.next()?.ok()?;
    let is_sole = field.tag == 1 && fields.next().is_none();
    field.bytes().ok().filter(|_| is_sole)
}

#[cfg(test)]
mod tests;
