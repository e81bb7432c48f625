//! What `nft` reads of the rules once the kernel has them: what the golden files say.

use std::io;
use std::process::Command;

use linux::nft::{self, Change, Table};
use node::eligibility::Capture;
use node::rules::{FamilyRules, host_table, leaving_table, pod_table};

use crate::worlds;

/// What `nft` lists in the current network namespace; `None` where it is not installed.
fn listed() -> Option<String> {
    match Command::new("nft").args(["--stateless", "list", "ruleset"]).output() {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn nft_reads_the_rules_of_each_family_and_of_both() {
    let Some(world) = worlds().into_iter().next() else { return };
    let v4 = FamilyRules::v4("169.254.7.127".parse().unwrap());
    let v6 = FamilyRules::v6("fd16:9254:7127:1337:ffff:ffff:ffff:ffff".parse().unwrap());
    let mut tables: Vec<Table> = vec![leaving_table()];
    for families in [&[v4][..], &[v6], &[v4, v6]] {
        tables.push(host_table(families));
        for lookups in [&[][..], families] {
            let capture = Capture { lookups: !lookups.is_empty(), ..Capture::default() };
            tables.push(pod_table(families, &capture, lookups));
        }
    }
    for table in tables {
        let (family, name, expected) = (table.family, table.name.clone(), table.to_string());
        let read = world.in_pod(|| {
            nft::apply(&[Change::ReplaceTable(table)]).unwrap();
            let read = listed();
            nft::apply(&[Change::DeleteTable { family, name }]).unwrap();
            read
        });
        match read {
            Some(read) => assert_eq!(read, expected),
            None => return println!("SKIPPED: nft is not installed"),
        }
    }
}
