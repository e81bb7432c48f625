//! Reads back what the kernel has.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::LiveChain;
use super::batch::{family_number, hook_number};
use super::model::{Element, Family, Hook};
use super::wire::{COMMENT, FAMILY_HEADER, Writer, kind};
use crate::netlink::{DUMP, attributes, dump_with, malformed};

const FAMILIES: [Family; 3] = [Family::Ip, Family::Ip6, Family::Inet];
const HOOKS: [Hook; 5] = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];

pub(super) fn tables() -> io::Result<Vec<(Family, String)>> {
    /// `NFPROTO_UNSPEC`: of all families.
    const ALL: u8 = 0;
    list(
        libc::NFT_MSG_GETTABLE,
        ALL,
        |_| {},
        |family, payload| {
            let name = text(find(payload, kind::TABLE_NAME)?);
            let family = FAMILIES.into_iter().find(|known| family_number(*known) == family)?;
            Some((family, name))
        },
    )
}

pub(super) fn chains(family: Family, table: &str) -> io::Result<Vec<LiveChain>> {
    let number = family_number(family);
    let found = list(
        libc::NFT_MSG_GETCHAIN,
        number,
        |_| {},
        |_, payload| {
            let is_wanted = text(find(payload, kind::CHAIN_TABLE)?) == table;
            let name = text(find(payload, kind::CHAIN_NAME)?);
            let hook = find(payload, kind::CHAIN_HOOK).and_then(hook);
            is_wanted.then_some(LiveChain { name, hook, rules: Vec::new() })
        },
    );
    let mut chains = found?;
    let rules = list(
        libc::NFT_MSG_GETRULE,
        number,
        |request| request.text(kind::RULE_TABLE, table),
        |_, payload| {
            let is_wanted = text(find(payload, kind::RULE_TABLE)?) == table;
            let chain = text(find(payload, kind::RULE_CHAIN)?);
            let comment = find(payload, kind::RULE_USERDATA).and_then(comment);
            is_wanted.then_some((chain, comment))
        },
    )?;
    for (chain, comment) in rules {
        if let Some(chain) = chains.iter_mut().find(|known| known.name == chain) {
            chain.rules.push(comment);
        }
    }
    Ok(chains)
}

pub(super) fn set_elements(family: Family, table: &str, set: &str) -> io::Result<Vec<Element>> {
    let name = |request: &mut Writer| {
        request.text(kind::ELEMENTS_TABLE, table);
        request.text(kind::ELEMENTS_SET, set);
    };
    let messages = list(libc::NFT_MSG_GETSETELEM, family_number(family), name, |_, payload| {
        let list = find(payload, kind::ELEMENTS_LIST)?;
        Some(attributes(list).map(|(_, value)| element(value)).collect::<Option<Vec<_>>>())
    })?;
    let mut elements = Vec::new();
    for message in messages {
        elements.extend(message.ok_or_else(|| malformed("an element of a set that is not an address"))?);
    }
    elements.sort();
    Ok(elements)
}

/// Lists what `message` asks for; `decode` gets the family and the attributes of each answer.
fn list<T>(
    message: i32,
    family: u8,
    request: impl FnOnce(&mut Writer),
    decode: impl Fn(u8, &[u8]) -> Option<T>,
) -> io::Result<Vec<T>> {
    let mut writer = Writer::default();
    writer.message(message, DUMP, family, 1, request);
    dump_with(NETLINK_NETFILTER, &writer.into_bytes()?, |message| {
        let (header, payload) = message
            .payload
            .split_at_checked(FAMILY_HEADER)
            .ok_or_else(|| malformed("an answer about packet filter rules that is too short"))?;
        Ok(decode(header.first().copied().unwrap_or_default(), payload))
    })
}

fn find(payload: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(payload).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

fn hook(attribute: &[u8]) -> Option<(Hook, i32)> {
    let number = u32::from_be_bytes(*find(attribute, kind::HOOK_NUMBER)?.first_chunk()?);
    let priority = i32::from_be_bytes(*find(attribute, kind::HOOK_PRIORITY)?.first_chunk()?);
    let hook = HOOKS.into_iter().find(|known| hook_number(*known) == number)?;
    Some((hook, priority))
}

/// The comment among user data: entries of a kind, a length and that many bytes.
fn comment(userdata: &[u8]) -> Option<String> {
    let mut rest = userdata;
    while let [kind, length, tail @ ..] = rest {
        let (value, tail) = tail.split_at_checked(usize::from(*length))?;
        if *kind == COMMENT {
            return Some(text(value));
        }
        rest = tail;
    }
    None
}

fn element(attribute: &[u8]) -> Option<Element> {
    let key = find(find(attribute, kind::ELEMENT_KEY)?, kind::DATA_VALUE)?;
    let address = if let Ok(octets) = <[u8; 4]>::try_from(key) {
        IpAddr::V4(Ipv4Addr::from(octets))
    } else {
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(key).ok()?))
    };
    Some(Element { address, comment: find(attribute, kind::ELEMENT_USERDATA).and_then(comment) })
}
