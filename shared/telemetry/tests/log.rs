//! The log of a whole process: what passes the filter, while the filter changes.

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use telemetry::log::{Layout, LogError, init_with};
    use telemetry::{AccessLog, AccessRecord, Direction, Party};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn speak(access: &AccessLog, round: u64) {
        tracing::info!(round, "an event");
        tracing::debug!(target: "xds::client", round, "a detail");
        let record = AccessRecord {
            direction: Direction::Outbound,
            source_address: "10.0.0.1:1".parse().unwrap(),
            source: Party::default(),
            destination_address: "10.0.0.2:80".parse().unwrap(),
            destination: Party::default(),
            hbone_address: None,
            service: None,
            bytes_sent: round,
            bytes_received: 0,
            duration: Duration::ZERO,
            error: None,
        };
        access.opened(record.clone());
        access.complete(record);
    }

    /// One test: a process has one log.
    #[test]
    fn what_passes_the_filter_is_written_while_the_filter_changes() {
        let memory = Memory::default();
        let logging = init_with("info", Layout::Plain, memory.clone()).unwrap();
        assert!(matches!(init_with("info", Layout::Plain, io::sink()), Err(LogError::AlreadySetUp)));
        assert!(matches!(init_with("loud", Layout::Plain, io::sink()), Err(LogError::Filter(_))));
        let (access, filter) = (logging.access(), logging.filter());
        speak(&access, 1);
        filter.change("access=off,xds=debug", false).unwrap();
        speak(&access, 2);
        filter.change("off,access=debug", false).unwrap();
        speak(&access, 3);
        filter.change("", true).unwrap();
        speak(&access, 4);
        drop(logging);
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<(&str, &str, u64)> = text
            .lines()
            .map(|line| {
                let parts: Vec<&str> = line.split('\t').collect();
                let number =
                    line.split(['=', ' ', '\t']).skip_while(|part| !["round", "bytes_sent"].contains(part)).nth(1);
                (parts[1], parts[3], number.and_then(|number| number.parse().ok()).unwrap_or(0))
            })
            .collect();
        let expected = [
            ("info", "an event", 1),
            ("info", "connection complete", 1),
            ("info", "an event", 2),
            ("debug", "a detail", 2),
            ("debug", "a detail", 3),
            ("debug", "connection opened", 0),
            ("info", "connection complete", 3),
            ("info", "an event", 4),
            ("info", "connection complete", 4),
        ];
        assert_eq!(lines, expected, "{text}");
    }
}
