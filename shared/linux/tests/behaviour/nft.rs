//! Rules as the kernel and the real `nft` see them.

use std::io;
use std::process::Command;

use linux::nft::{
    self, Chain, ChainKind, Change, Element, Family, Hook, Relation, Rule, Set, Statement, Table, Transport,
};
use linux::{NetNs, errno};

use super::rulesets::{base, element, inet_table, rule, single_table, to_prefix};
use super::support::in_namespace;

use Relation::Equal;

/// What the real `nft` lists; `None` where it is not installed.
fn nft_list() -> Option<String> {
    match Command::new("nft").args(["--stateless", "list", "ruleset"]).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            println!("SKIPPED: nft is not installed");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The recording came from nft 1.0.6; the next test compares with the nft that is there.
#[test]
fn the_model_prints_what_nft_was_seen_to_list() {
    assert_eq!(inet_table().to_string(), include_str!("recorded.nft"));
}

#[test]
fn nft_lists_what_the_model_prints() {
    in_namespace(|| {
        for table in [inet_table(), single_table(Family::Ip), single_table(Family::Ip6)] {
            nft::apply(&[Change::ReplaceTable(table.clone())]).unwrap();
            let Some(listed) = nft_list() else { return };
            let printed = table.to_string();
            for (listed, printed) in listed.lines().zip(printed.lines()) {
                assert_eq!(listed, printed);
            }
            assert_eq!(listed, printed);
            nft::apply(&[Change::DeleteTable { family: table.family, name: table.name }]).unwrap();
        }
        assert_eq!(nft_list().unwrap(), "");
    });
}

#[test]
fn nft_loads_what_the_model_prints() {
    in_namespace(|| {
        if nft_list().is_none() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rules.nft");
        for table in [inet_table(), single_table(Family::Ip), single_table(Family::Ip6)] {
            std::fs::write(&file, table.to_string()).unwrap();
            let output = Command::new("nft").arg("-f").arg(&file).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(nft_list().unwrap(), table.to_string());
            nft::apply(&[Change::DeleteTable { family: table.family, name: table.name }]).unwrap();
        }
    });
}

#[test]
fn what_was_applied_is_read_back() {
    in_namespace(|| {
        let table = inet_table();
        assert!(!nft::has_table(Family::Inet, &table.name).unwrap());
        assert_eq!(nft::chains(Family::Inet, &table.name).unwrap(), []);
        nft::apply(&[Change::ReplaceTable(table.clone())]).unwrap();
        assert!(nft::has_table(Family::Inet, &table.name).unwrap());
        assert!(!nft::has_table(Family::Ip, &table.name).unwrap());
        assert_eq!(nft::tables().unwrap(), [(Family::Inet, table.name.clone())]);
        let live = nft::chains(Family::Inet, &table.name).unwrap();
        assert_eq!(live.len(), table.chains.len());
        for (live, chain) in live.iter().zip(&table.chains) {
            assert_eq!(live.name, chain.name);
            assert_eq!(live.hook, chain.base.map(|base| (base.hook, base.priority)));
            assert_eq!(live.rules, chain.rules.iter().map(|rule| rule.comment.clone()).collect::<Vec<_>>());
        }
        let elements = nft::set_elements(Family::Inet, &table.name, "v4").unwrap();
        assert_eq!(elements, table.sets[0].elements);
        let absent = nft::set_elements(Family::Inet, &table.name, "v5").unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn replacing_a_table_leaves_nothing_of_the_old_one() {
    in_namespace(|| {
        nft::apply(&[Change::ReplaceTable(inet_table())]).unwrap();
        let small = Table { chains: vec![Chain::new("only", [])], ..Table::new(Family::Inet, "aquifer-test") };
        nft::apply(&[Change::ReplaceTable(small)]).unwrap();
        let live = nft::chains(Family::Inet, "aquifer-test").unwrap();
        assert_eq!(live.iter().map(|chain| chain.name.as_str()).collect::<Vec<_>>(), ["only"]);
        assert!(nft::set_elements(Family::Inet, "aquifer-test", "v4").is_err());
    });
}

#[test]
fn replacing_a_chain_leaves_the_others_alone() {
    in_namespace(|| {
        let counted = |comment: &str| rule(&[Statement::Counter]).with_comment(comment);
        let table = Table {
            chains: vec![Chain::new("one", [counted("a"), counted("b")]), Chain::new("other", [counted("c")])],
            ..Table::new(Family::Inet, "aquifer-test")
        };
        let replace = |chain: Chain| Change::ReplaceChain { family: Family::Inet, table: table.name.clone(), chain };
        let comments = || -> Vec<(String, Vec<String>)> {
            let live = nft::chains(Family::Inet, "aquifer-test").unwrap();
            live.into_iter().map(|chain| (chain.name, chain.rules.into_iter().flatten().collect())).collect()
        };
        assert_eq!(nft::apply(&[replace(Chain::new("one", []))]).unwrap_err().kind(), io::ErrorKind::NotFound);
        nft::apply(&[Change::ReplaceTable(table.clone())]).unwrap();
        nft::apply(&[replace(Chain::new("one", [counted("d")])), replace(Chain::new("new", [counted("e")]))]).unwrap();
        let expected: [(&str, &[&str]); 3] = [("one", &["d"]), ("other", &["c"]), ("new", &["e"])];
        let expected =
            expected.map(|(name, rules)| (name.to_owned(), rules.iter().map(|text| (*text).to_owned()).collect()));
        assert_eq!(comments(), expected);
    });
}

#[test]
fn elements_are_upserted_and_removed_by_the_thousand() {
    in_namespace(|| {
        let name = "aquifer-test".to_owned();
        let add =
            |elements| Change::AddElements { family: Family::Inet, table: name.clone(), set: "v4".into(), elements };
        let remove =
            |elements| Change::RemoveElements { family: Family::Inet, table: name.clone(), set: "v4".into(), elements };
        let live = || nft::set_elements(Family::Inet, "aquifer-test", "v4").unwrap();
        let table = Table { sets: vec![Set::new(Family::Ip, "v4")], ..Table::new(Family::Inet, name.clone()) };

        nft::apply(&[remove(vec!["10.0.0.1".parse().unwrap()])]).unwrap();
        assert!(!nft::has_table(Family::Inet, &name).unwrap(), "removing from nowhere made a table");
        nft::apply(&[Change::ReplaceTable(table)]).unwrap();
        nft::apply(&[add(vec![element("10.0.0.1", "old"), element("10.0.0.2", "kept")])]).unwrap();
        nft::apply(&[add(vec![element("10.0.0.1", "new")])]).unwrap();
        assert_eq!(live(), [element("10.0.0.1", "new"), element("10.0.0.2", "kept")]);
        nft::apply(&[remove(vec!["10.0.0.1".parse().unwrap(), "10.0.0.9".parse().unwrap()])]).unwrap();
        assert_eq!(live(), [element("10.0.0.2", "kept")]);

        let many: Vec<Element> = (0..5000)
            .map(|n| element(&std::net::Ipv4Addr::from(0x0b00_0000 + n).to_string(), &"x".repeat(127)))
            .collect();
        nft::apply(&[add(many.clone())]).unwrap();
        assert_eq!(live().len(), 5001);
        nft::apply(&[remove(many.iter().map(|element| element.address).collect())]).unwrap();
        assert_eq!(live(), [element("10.0.0.2", "kept")]);
    });
}

#[test]
fn a_refused_batch_changes_nothing_and_names_the_step() {
    in_namespace(|| {
        let mut table = inet_table();
        nft::apply(&[Change::ReplaceTable(table.clone())]).unwrap();
        let before = nft::chains(Family::Inet, &table.name).unwrap();
        let jump = rule(&[Statement::Counter, Statement::Jump("nowhere".into())]).with_comment("lost");
        table.chains[0].rules = vec![jump];
        let other = Table::new(Family::Ip, "other");
        let error = nft::apply(&[Change::ReplaceTable(other), Change::ReplaceTable(table.clone())]).unwrap_err();
        assert_eq!(errno(&error), Some(libc::ENOENT));
        assert_eq!(
            error.to_string(),
            "adding rule `counter jump nowhere comment \"lost\"` to chain helper of table inet aquifer-test, at \
             `jump nowhere`: No such file or directory (os error 2)"
        );
        assert_eq!(nft::chains(Family::Inet, &table.name).unwrap(), before);
        assert!(!nft::has_table(Family::Ip, "other").unwrap());
    });
}

#[test]
fn a_translation_in_the_wrong_chain_is_named() {
    in_namespace(|| {
        let chain = Chain::at(
            base(ChainKind::Filter, Hook::Input, 0),
            "input",
            [rule(&[Statement::DestinationPort(Transport::Tcp, Equal, 80), Statement::Redirect(15006)])],
        );
        let table = Table { chains: vec![chain], ..Table::new(Family::Ip, "odd") };
        let error = nft::apply(&[Change::ReplaceTable(table)]).unwrap_err();
        assert_eq!(errno(&error), Some(libc::EOPNOTSUPP));
        assert!(error.to_string().contains("`tcp dport 80 redirect to :15006` to chain input"), "{error}");
    });
}

#[test]
fn rules_that_mean_nothing_are_refused_before_the_kernel_sees_them() {
    in_namespace(|| {
        let tcp = Statement::L4Protocol(Transport::Tcp);
        let six = Statement::Source(Equal, to_prefix("fd00::/64"));
        let four = Statement::Source(Equal, to_prefix("10.0.0.0/8"));
        let cases: [(Family, Rule, &str); 8] = [
            (Family::Ip, rule(std::slice::from_ref(&six)), "a rule for ip cannot hold ip6"),
            (Family::Inet, rule(&[four, six]), "a rule for ip cannot hold ip6"),
            (Family::Inet, rule(&[tcp.clone(), Statement::SourcePort(Transport::Udp, Equal, 1)]), "cannot match udp"),
            (Family::Inet, rule(&[Statement::Redirect(1)]), "only be translated after a match on tcp or udp"),
            (Family::Ip, rule(&[tcp.clone(), Statement::DnatTo("[::1]:1".parse().unwrap())]), "cannot hold ip6"),
            (Family::Inet, rule(&[Statement::InInterface(Equal, "x".repeat(16))]), "name of an interface"),
            (Family::Inet, rule(std::slice::from_ref(&tcp)).with_comment("say \"hi\""), "no quotes"),
            (Family::Inet, rule(&[tcp]).with_comment("x".repeat(128)), "at most 127 bytes"),
        ];
        for (family, rule, reason) in cases {
            let table = Table { chains: vec![Chain::new("chain", [rule])], ..Table::new(family, "odd") };
            let error = nft::apply(&[Change::ReplaceTable(table)]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains(reason), "{error}");
            assert!(error.to_string().contains("to chain chain of table"), "{error}");
        }
        let unreadable = Table::new(Family::Ip, "a b");
        assert_eq!(nft::apply(&[Change::ReplaceTable(unreadable)]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(nft::tables().unwrap(), []);
    });
}

#[test]
fn deleting_what_is_absent_is_fine_and_an_empty_batch_too() {
    in_namespace(|| {
        nft::apply(&[]).unwrap();
        nft::apply(&[Change::DeleteTable { family: Family::Inet, name: "absent".into() }]).unwrap();
        assert_eq!(nft::tables().unwrap(), []);
    });
}

#[test]
fn rules_belong_to_their_namespace() {
    in_namespace(|| {
        let other = NetNs::create().unwrap();
        other.run(|| nft::apply(&[Change::ReplaceTable(inet_table())]).unwrap()).unwrap();
        assert_eq!(nft::tables().unwrap(), []);
    });
}
