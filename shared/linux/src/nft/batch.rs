//! Changes as the messages of one batch, each message with a name for the error that it may meet.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::net::IpAddr;

use super::Change;
use super::display::{InFamily, family_of};
use super::expression::{Starts, write_rule};
use super::model::{Base, Chain, ChainKind, Element, Family, Hook, Policy, Rule, Set, Table};
use super::register::octets;
use super::wire::{COMMENT, KEY_BYTE_ORDER, LONGEST_COMMENT, Writer, kind};
use crate::error::Named;
use crate::netlink::{ACKNOWLEDGE, APPEND, CREATE};

/// A message's list of elements has room for 64 KiB; one element with the longest comment takes 160 bytes.
const ELEMENTS_PER_MESSAGE: usize = 256;

/// `nft`'s numbers for the types of keys (`TYPE_IPADDR`, `TYPE_IP6ADDR`).
const KEY_IPV4: u32 = 7;
const KEY_IPV6: u32 = 8;
/// `nft`'s number for network byte order.
const BIG_ENDIAN: u32 = 2;

/// The messages of a batch, from its beginning to its end.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) bytes: Vec<u8>,
    pub(super) steps: Vec<Step<'a>>,
}

/// One message of a batch; its sequence number is its position plus one.
#[derive(Debug)]
pub(super) struct Step<'a> {
    /// Which of the changes it belongs to.
    pub(super) change: usize,
    subject: Subject<'a>,
    /// Where the message starts, and where in it the expressions of each statement.
    start: usize,
    statements: Starts,
}

/// What a message is about.
#[derive(Debug, Clone, Copy)]
enum Subject<'a> {
    AddTable(Family, &'a str),
    DeleteTable(Family, &'a str),
    AddSet(Family, &'a str, &'a Set),
    AddChain(Family, &'a str, &'a Chain),
    FlushChain(Family, &'a str, &'a Chain),
    AddRule(Family, &'a str, &'a Chain, &'a Rule),
    AddElements(Family, &'a str, &'a str),
    DeleteElements(Family, &'a str, &'a str),
}

/// Writes the messages of `changes`, leaving out those whose position is in `skipped`.
pub(super) fn encode<'a>(changes: &'a [Change], skipped: &[usize]) -> io::Result<Batch<'a>> {
    let mut encoder = Encoder { writer: Writer::default(), steps: Vec::new(), change: 0, last_set: 0 };
    encoder.writer.batch(libc::NFNL_MSG_BATCH_BEGIN, 0);
    for (position, change) in changes.iter().enumerate().filter(|(position, _)| !skipped.contains(position)) {
        encoder.change = position;
        encoder.write(change)?;
    }
    let sequence = encoder.sequence();
    encoder.writer.batch(libc::NFNL_MSG_BATCH_END, sequence);
    let mut bytes = encoder.writer.into_bytes()?;
    if let Some(last) = encoder.steps.last() {
        acknowledge(&mut bytes, last.start);
    }
    Ok(Batch { bytes, steps: encoder.steps })
}

/// Asks for an answer to the message at `start`: without a refusal, it tells that the batch was done.
fn acknowledge(bytes: &mut [u8], start: usize) {
    /// Where the flags are in `struct nlmsghdr`.
    const FLAGS: usize = 6;
    if let Some(place) = bytes.get_mut(start + FLAGS..).and_then(|rest| rest.first_chunk_mut()) {
        *place = (u16::from_ne_bytes(*place) | ACKNOWLEDGE).to_ne_bytes();
    }
}

/// The number of a family in messages and in the expressions that compare it.
pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::Inet => 1,
        Family::Ip => 2,
        Family::Ip6 => 10,
    }
}

struct Encoder<'a> {
    writer: Writer,
    steps: Vec<Step<'a>>,
    change: usize,
    last_set: u32,
}

impl<'a> Encoder<'a> {
    fn write(&mut self, change: &'a Change) -> io::Result<()> {
        match change {
            Change::ReplaceTable(table) => self.replace_table(table),
            Change::DeleteTable { family, name } => self.delete_table(*family, name),
            Change::ReplaceChain { family, table, chain } => {
                self.add_chain(*family, table, chain)?;
                self.flush_chain(*family, table, chain);
                self.add_rules(*family, table, chain)
            }
            Change::AddElements { family, table, set, elements } => {
                for elements in elements.chunks(ELEMENTS_PER_MESSAGE) {
                    let bare: Vec<Element> = elements.iter().map(|element| element.address.into()).collect();
                    // An element that is there would keep its old comment.
                    self.elements(libc::NFT_MSG_NEWSETELEM, *family, table, set, &bare)?;
                    self.elements(libc::NFT_MSG_DELSETELEM, *family, table, set, &bare)?;
                    self.elements(libc::NFT_MSG_NEWSETELEM, *family, table, set, elements)?;
                }
                Ok(())
            }
            Change::RemoveElements { family, table, set, elements } => {
                for addresses in elements.chunks(ELEMENTS_PER_MESSAGE) {
                    let bare: Vec<Element> = addresses.iter().map(|address: &IpAddr| (*address).into()).collect();
                    // Only what is there can be deleted, and adding what is there changes nothing. The kernel has
                    // messages for this (`NFT_MSG_DESTROYSETELEM`) since 6.3 only.
                    self.elements(libc::NFT_MSG_NEWSETELEM, *family, table, set, &bare)?;
                    self.elements(libc::NFT_MSG_DELSETELEM, *family, table, set, &bare)?;
                }
                Ok(())
            }
        }
    }

    fn replace_table(&mut self, table: &'a Table) -> io::Result<()> {
        let Table { family, name, chains, sets } = table;
        self.delete_table(*family, name)?;
        self.add_table(*family, name)?;
        for set in sets {
            self.add_set(*family, name, set)?;
        }
        for chain in chains {
            self.add_chain(*family, name, chain)?;
        }
        // All chains exist before the first rule, so that rules can jump to any of them.
        for chain in chains {
            self.add_rules(*family, name, chain)?;
        }
        Ok(())
    }

    fn add_table(&mut self, family: Family, name: &'a str) -> io::Result<()> {
        let subject = Subject::AddTable(family, name);
        check_name(name).named(|| subject.to_string())?;
        self.message(libc::NFT_MSG_NEWTABLE, CREATE, family, subject, |writer| {
            writer.text(kind::TABLE_NAME, name);
        });
        Ok(())
    }

    /// Makes the table first, because only what is there can be deleted: `NFT_MSG_DESTROYTABLE` is as young as 6.3.
    fn delete_table(&mut self, family: Family, name: &'a str) -> io::Result<()> {
        self.add_table(family, name)?;
        self.message(libc::NFT_MSG_DELTABLE, 0, family, Subject::DeleteTable(family, name), |writer| {
            writer.text(kind::TABLE_NAME, name);
        });
        Ok(())
    }

    fn add_set(&mut self, family: Family, table: &'a str, set: &'a Set) -> io::Result<()> {
        let subject = Subject::AddSet(family, table, set);
        check_name(&set.name).named(|| subject.to_string())?;
        self.last_set += 1;
        let id = self.last_set;
        let (key_type, key_length) = if set.family == Family::Ip6 { (KEY_IPV6, 16) } else { (KEY_IPV4, 4) };
        self.message(libc::NFT_MSG_NEWSET, CREATE, family, subject, |writer| {
            writer.text(kind::SET_TABLE, table);
            writer.text(kind::SET_NAME, &set.name);
            writer.number(kind::SET_FLAGS, 0);
            writer.number(kind::SET_KEY_TYPE, key_type);
            writer.number(kind::SET_KEY_LENGTH, key_length);
            writer.number(kind::SET_ID, id);
            writer.userdata(kind::SET_USERDATA, KEY_BYTE_ORDER, &BIG_ENDIAN.to_ne_bytes());
        });
        let is_foreign = |element: &&Element| set.family != family_of(element.address);
        if let Some(foreign) = set.elements.iter().find(is_foreign) {
            let text = format!("the set does not hold {}", foreign.address);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text)).named(|| subject.to_string());
        }
        for elements in set.elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.elements(libc::NFT_MSG_NEWSETELEM, family, table, &set.name, elements)?;
        }
        Ok(())
    }

    fn elements(
        &mut self,
        message: i32,
        family: Family,
        table: &'a str,
        set: &'a str,
        elements: &[Element],
    ) -> io::Result<()> {
        let subject = if message == libc::NFT_MSG_DELSETELEM {
            Subject::DeleteElements(family, table, set)
        } else {
            Subject::AddElements(family, table, set)
        };
        for comment in elements.iter().filter_map(|element| element.comment.as_deref()) {
            check_comment(comment).named(|| subject.to_string())?;
        }
        self.message(message, CREATE, family, subject, |writer| {
            writer.text(kind::ELEMENTS_TABLE, table);
            writer.text(kind::ELEMENTS_SET, set);
            writer.nested(kind::ELEMENTS_LIST, |writer| {
                for element in elements {
                    writer.nested(kind::LIST_ELEMENT, |writer| write_element(writer, element));
                }
            });
        });
        Ok(())
    }

    fn add_chain(&mut self, family: Family, table: &'a str, chain: &'a Chain) -> io::Result<()> {
        let subject = Subject::AddChain(family, table, chain);
        check_name(&chain.name).named(|| subject.to_string())?;
        self.message(libc::NFT_MSG_NEWCHAIN, CREATE, family, subject, |writer| {
            writer.text(kind::CHAIN_TABLE, table);
            writer.text(kind::CHAIN_NAME, &chain.name);
            if let Some(base) = &chain.base {
                write_base(writer, base);
            }
        });
        Ok(())
    }

    fn flush_chain(&mut self, family: Family, table: &'a str, chain: &'a Chain) {
        let subject = Subject::FlushChain(family, table, chain);
        self.message(libc::NFT_MSG_DELRULE, 0, family, subject, |writer| {
            writer.text(kind::RULE_TABLE, table);
            writer.text(kind::RULE_CHAIN, &chain.name);
        });
    }

    fn add_rules(&mut self, family: Family, table: &'a str, chain: &'a Chain) -> io::Result<()> {
        for rule in &chain.rules {
            let subject = Subject::AddRule(family, table, chain, rule);
            let mut expressions = Ok(Starts::new());
            self.message(libc::NFT_MSG_NEWRULE, CREATE | APPEND, family, subject, |writer| {
                writer.text(kind::RULE_TABLE, table);
                writer.text(kind::RULE_CHAIN, &chain.name);
                expressions = write_rule(writer, family, rule);
                if let Some(comment) = &rule.comment {
                    writer.userdata(kind::RULE_USERDATA, COMMENT, &with_nul(comment));
                }
            });
            rule.comment.as_deref().map_or(Ok(()), check_comment).named(|| subject.to_string())?;
            let statements = expressions.named(|| subject.to_string())?;
            if let Some(step) = self.steps.last_mut() {
                step.statements = statements;
            }
        }
        Ok(())
    }

    fn message(
        &mut self,
        message: i32,
        flags: u16,
        family: Family,
        subject: Subject<'a>,
        content: impl FnOnce(&mut Writer),
    ) {
        let start = self.writer.position();
        self.steps.push(Step { change: self.change, subject, start, statements: Starts::new() });
        let sequence = self.sequence();
        self.writer.message(message, flags, family_number(family), sequence, content);
    }

    fn sequence(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }
}

impl Step<'_> {
    /// What the step does; with the statement at `offset` of the message, if the kernel named one.
    pub(super) fn describe(&self, offset: Option<u32>) -> String {
        let Subject::AddRule(_, _, _, rule) = self.subject else { return self.subject.to_string() };
        let place = offset.and_then(|offset| usize::try_from(offset).ok()).map(|offset| self.start + offset);
        let named = place.and_then(|place| {
            let position = self.statements.iter().rposition(|start| *start <= place)?;
            rule.statements.get(position)
        });
        match named {
            Some(statement) => format!("{}, at `{statement}`", self.subject),
            None => self.subject.to_string(),
        }
    }
}

impl Display for Subject<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddTable(family, table) => write!(f, "adding table {family} {table}"),
            Self::DeleteTable(family, table) => write!(f, "deleting table {family} {table}"),
            Self::AddSet(family, table, set) => write!(f, "adding set {} to table {family} {table}", set.name),
            Self::AddChain(family, table, chain) => {
                write!(f, "adding chain {} to table {family} {table}", chain.name)
            }
            Self::FlushChain(family, table, chain) => {
                write!(f, "emptying chain {} of table {family} {table}", chain.name)
            }
            Self::AddRule(family, table, chain, rule) => {
                let rule = InFamily(rule, *family);
                write!(f, "adding rule `{rule}` to chain {} of table {family} {table}", chain.name)
            }
            Self::AddElements(family, table, set) => {
                write!(f, "adding elements to set {set} of table {family} {table}")
            }
            Self::DeleteElements(family, table, set) => {
                write!(f, "deleting elements from set {set} of table {family} {table}")
            }
        }
    }
}

fn write_base(writer: &mut Writer, base: &Base) {
    writer.nested(kind::CHAIN_HOOK, |writer| {
        writer.number(kind::HOOK_NUMBER, hook_number(base.hook));
        writer.number(kind::HOOK_PRIORITY, base.priority.cast_unsigned());
    });
    let verdict = match base.policy {
        Policy::Accept => libc::NF_ACCEPT,
        Policy::Drop => libc::NF_DROP,
    };
    writer.number(kind::CHAIN_POLICY, verdict.cast_unsigned());
    let name = match base.kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
        ChainKind::Route => "route",
    };
    writer.text(kind::CHAIN_TYPE, name);
}

fn write_element(writer: &mut Writer, element: &Element) {
    writer.nested(kind::ELEMENT_KEY, |writer| writer.bytes(kind::DATA_VALUE, &octets(element.address)));
    if let Some(comment) = &element.comment {
        writer.userdata(kind::ELEMENT_USERDATA, COMMENT, &with_nul(comment));
    }
}

/// The hook's number in the kernel (`enum nf_inet_hooks`).
pub(super) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

fn with_nul(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// A name that `nft` could read back.
fn check_name(name: &str) -> io::Result<()> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | '/');
    if name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a name that nft can read")))
}

/// `nft` prints comments in quotes and knows no way to quote a quote.
fn check_comment(comment: &str) -> io::Result<()> {
    let text = match comment {
        _ if comment.len() > LONGEST_COMMENT => format!("a comment has at most {LONGEST_COMMENT} bytes"),
        _ if comment.contains(|letter: char| letter == '"' || letter.is_control()) => {
            "a comment holds no quotes and no control characters".to_owned()
        }
        _ => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}
