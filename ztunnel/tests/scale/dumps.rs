//! Configuration dumps of a large mesh: they are written piece by piece, and what they take they give back.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::control::Control;
use crate::machine::{on_machine, within};
use crate::measure::{alone, memory};

/// Workloads of the mesh; the dump of one has some 700 bytes.
const WORKLOADS: u32 = 10_000;

/// The dump is larger than this, and its making must not take as much, in bytes.
const DUMP: usize = 6 << 20;

/// How much more memory may be in use after many dumps than after the first ones, and during one, in bytes.
const GROWTH: u64 = 3 << 20;

/// Asks for a dump and reads so much of it; the bytes that came, and the most memory that was in use meanwhile.
async fn dump(most: usize) -> (usize, u64) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", 15000)).await else { return (0, 0) };
    stream.write_all(b"GET /config_dump HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let (mut buffer, mut length, mut peak) = (vec![0; 16 << 10], 0, 0);
    while length < most {
        let Ok(read @ 1..) = stream.read(&mut buffer).await else { break };
        length += read;
        peak = peak.max(memory());
    }
    (length, peak)
}

#[test]
fn dumps_of_a_large_mesh_cost_little_memory_and_leave_none() {
    on_machine(|machine| async move {
        let _alone = alone().await;
        let control = Control::start_with(WORKLOADS - 1).await;
        machine.write("root.pem", &control.roots_pem);
        let program = machine.start(&[]);
        let known = async {
            while dump(usize::MAX).await.0 < DUMP {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        within(known).await;
        // Buffers reach the size that they keep.
        for _ in 0..2 {
            within(dump(usize::MAX)).await;
        }
        let (before, mut peak) = (memory(), 0);
        for round in 0..10 {
            let (length, most) = within(dump(usize::MAX)).await;
            assert!(length >= DUMP, "round {round}: {length} bytes");
            peak = peak.max(most);
            // And one that nobody reads to its end.
            within(dump(100 << 10)).await;
        }
        let after = memory();
        println!("memory {} KiB before, {} KiB at most, {} KiB after", before >> 10, peak >> 10, after >> 10);
        assert!(peak <= before + GROWTH, "a dump takes {} bytes", peak.saturating_sub(before));
        assert!(after <= before + GROWTH, "{before} bytes, then {after}");
        program.trigger.force();
        within(program.ended).await.unwrap().unwrap();
    });
}
