//! Command lines that can be copied into a shell.

/// What to type for these arguments of `aquifer`.
pub(crate) fn command(arguments: &[String]) -> String {
    let words: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
    format!("aquifer {}", words.join(" "))
}

/// A word as a shell takes it whole.
fn quoted(word: &str) -> String {
    let is_safe = |letter: char| letter.is_ascii_alphanumeric() || "-_./,:=@%+".contains(letter);
    if !word.is_empty() && word.chars().all(is_safe) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_same_words() {
        let arguments =
            ["bench", "--budget", "ambient-l4.p99<=1.5x", "--kubeconfig", "/a b/it's", ""].map(str::to_owned);
        let command = command(&arguments);
        assert_eq!(command, r"aquifer bench --budget 'ambient-l4.p99<=1.5x' --kubeconfig '/a b/it'\''s' ''");
        let output =
            std::process::Command::new("sh").args(["-c", &format!("set -- {command}; printf '%s|' \"$@\"")]).output();
        let read = String::from_utf8(output.unwrap().stdout).unwrap();
        assert_eq!(read, format!("aquifer|{}|", arguments.join("|")));
    }
}
