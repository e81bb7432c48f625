//! The raw kinds that exchange few bytes.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::connection::{Delay, Input, Shared};
use crate::preamble::ANSWER;

/// Bytes of an answer at most.
const MOST: u32 = 16 << 20;

/// Answers each `request` bytes with `response` bytes until the peer ends.
pub(super) async fn ping_pong(mut input: Input, request: u32, response: u32, shared: &Shared) -> io::Result<()> {
    let mut delay = Delay::new(shared.delay)?;
    let answer = vec![b'.'; response.min(MOST) as usize];
    loop {
        input.skip(request as usize).await?;
        delay.pass().await?;
        input.write(&answer).await?;
    }
}

/// Answers with a byte and closes.
pub(super) async fn once(mut input: Input) -> io::Result<()> {
    input.write(ANSWER).await?;
    input.stream.shutdown().await
}

/// Answers with a byte and waits for the peer to end; a dead one is found by keep-alive.
pub(super) async fn hold(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(ANSWER).await?;
    while stream.read_u8().await.is_ok() {}
    Ok(())
}
