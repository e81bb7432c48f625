//! Responses as they came off the wire: every text and every resource lies where it arrived.

use std::collections::HashSet;

use crate::wire::{Field, Fields, Undecodable};

/// A `DeltaDiscoveryResponse`.
#[derive(Debug, Default)]
pub(super) struct Response<'a> {
    pub(super) type_url: &'a str,
    pub(super) nonce: &'a str,
    /// In the server's order; of several of one name the last one.
    pub(super) resources: Vec<Resource<'a>>,
    pub(super) removed: Vec<&'a str>,
    /// How large its resources are.
    pub(super) resource_bytes: usize,
}

/// A `Resource`.
#[derive(Debug, Default)]
pub(super) struct Resource<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) aliases: Vec<&'a str>,
    /// The type of what is inside and its encoding; `None` without envelope.
    pub(super) content: Option<(&'a str, &'a [u8])>,
}

impl<'a> Response<'a> {
    pub(super) fn decode(encoded: &'a [u8]) -> Result<Self, Undecodable> {
        let mut response = Self::default();
        let mut is_sorted = true;
        for field in Fields::of(encoded) {
            let field = field?;
            match field.tag {
                2 => {
                    let encoded = field.bytes()?;
                    response.resource_bytes += encoded.len();
                    let resource = Resource::decode(encoded)?;
                    is_sorted &= response.resources.last().is_none_or(|last| last.name < resource.name);
                    response.resources.push(resource);
                }
                4 => response.type_url = field.text()?,
                5 => response.nonce = field.text()?,
                6 => response.removed.push(field.text()?),
                _ => {}
            }
        }
        if !is_sorted {
            keep_last_of_each_name(&mut response.resources);
        }
        Ok(response)
    }
}

impl<'a> Resource<'a> {
    fn decode(encoded: &'a [u8]) -> Result<Self, Undecodable> {
        let mut resource = Self::default();
        for field in Fields::of(encoded) {
            let field = field?;
            match field.tag {
                1 => resource.version = field.text()?,
                2 => resource.open(&field)?,
                3 => resource.name = field.text()?,
                4 => resource.aliases.push(field.text()?),
                _ => {}
            }
        }
        Ok(resource)
    }

    /// Looks into the envelope, an `Any`; further ones add to it, as in every message that comes in parts.
    fn open(&mut self, envelope: &Field<'a>) -> Result<(), Undecodable> {
        let (type_url, value) = self.content.get_or_insert_default();
        for field in Fields::of(envelope.bytes()?) {
            let field = field?;
            match field.tag {
                1 => *type_url = field.text()?,
                2 => *value = field.bytes()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The resource's name and the names that it is found under besides.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

/// A name that comes twice counts once, or a good and a bad resource of one name would leave the books undecided.
fn keep_last_of_each_name(resources: &mut Vec<Resource<'_>>) {
    let mut seen = HashSet::with_capacity(resources.len());
    resources.reverse();
    resources.retain(|resource| seen.insert(resource.name));
    resources.reverse();
}
