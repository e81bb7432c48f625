//! gRPC through a client that knows nothing of the server, as grpcurl does it, and through the generated one.

use proto::aquifer::echo::v1::echo_client::EchoClient;
use proto::aquifer::echo::v1::{EchoRequest, RepeatRequest};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request as Call};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::*;

async fn channel(peer: &Peer) -> Channel {
    Endpoint::from_shared(format!("http://{}", peer.addresses.h2c)).unwrap().connect().await.unwrap()
}

fn message(text: &str) -> EchoRequest {
    EchoRequest { message: text.to_owned(), ..EchoRequest::default() }
}

#[tokio::test]
async fn a_call_comes_back_with_what_was_seen() {
    let peer = peer().await;
    let mut client = EchoClient::new(channel(&peer).await);
    let mut call = Call::new(message("hello"));
    call.metadata_mut().insert("x-user", "me".parse().unwrap());
    let answer = client.echo(call).await.unwrap().into_inner();
    assert_eq!((answer.message.as_str(), answer.pod.unwrap().name.as_str()), ("hello", "cart-1"));
    assert!(answer.source.starts_with("127.0.0.1:"), "{}", answer.source);
    assert!(answer.headers.iter().any(|header| header.name == "x-user" && header.value == "me"));
    drop(client);
    peer.end().await;
}

#[tokio::test]
async fn the_status_comes_as_wished_and_nonsense_is_named() {
    let peer = peer().await;
    let mut client = EchoClient::new(channel(&peer).await);
    for code in 1..=16 {
        let refused = client.echo(EchoRequest { code, ..message("no") }).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::from_i32(i32::try_from(code).unwrap()), "no"));
    }
    for (request, field) in [
        (EchoRequest { code: 17, ..message("") }, "code"),
        (EchoRequest { delay_ms: 60_001, ..message("") }, "delay_ms"),
    ] {
        let refused = client.echo(request).await.unwrap_err();
        assert!(refused.code() == Code::InvalidArgument && refused.message().starts_with(field), "{refused:?}");
    }
    drop(client);
    peer.end().await;
}

#[tokio::test]
async fn streams_flow_in_both_directions() {
    let peer = peer().await;
    let mut client = EchoClient::new(channel(&peer).await);
    let request = RepeatRequest { message: "again".to_owned(), count: 3, interval_ms: 1 };
    let mut answers = client.repeat(request).await.unwrap().into_inner();
    let mut numbers = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        numbers.push((answer.number, answer.message, !answer.headers.is_empty()));
    }
    let again = || "again".to_owned();
    assert_eq!(numbers, [(0, again(), true), (1, again(), false), (2, again(), false)]);

    // Each message is sent only when the one before has come back.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let outgoing =
        futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    sender.send(message("0")).await.unwrap();
    let mut answers = client.chat(outgoing).await.unwrap().into_inner();
    for number in 0..5_u32 {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.number, answer.message), (number, number.to_string()));
        sender.send(message(&(number + 1).to_string())).await.unwrap();
    }
    drop(sender);
    assert_eq!(answers.message().await.unwrap().unwrap().number, 5);
    assert!(answers.message().await.unwrap().is_none(), "the caller has ended its side");
    drop((client, answers));
    peer.end().await;
}

#[tokio::test]
async fn a_shutdown_ends_streams_with_a_status() {
    let peer = peer().await;
    let mut client = EchoClient::new(channel(&peer).await);
    let outgoing = futures::stream::pending::<EchoRequest>();
    let mut chat = client.chat(outgoing).await.unwrap().into_inner();
    let request = RepeatRequest { message: String::new(), count: 9, interval_ms: 60_000 };
    let mut repeat = client.repeat(request).await.unwrap().into_inner();
    repeat.message().await.unwrap().unwrap();
    let end = tokio::spawn(peer.end());
    assert_eq!(chat.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(repeat.message().await.unwrap_err().code(), Code::Unavailable);
    end.await.unwrap();
}

#[tokio::test]
async fn the_server_describes_itself() {
    let peer = peer().await;
    let mut client = ServerReflectionClient::new(channel(&peer).await);
    let ask = |question| ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let questions = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("aquifer.echo.v1.Echo".to_owned())),
    ];
    let mut answers = client.server_reflection_info(futures::stream::iter(questions)).await.unwrap().into_inner();
    let mut next = async || answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = next().await else { panic!("not a list") };
    let mut names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["aquifer.echo.v1.Echo", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]);
    let MessageResponse::FileDescriptorResponse(files) = next().await else { panic!("not a file") };
    assert!(files.file_descriptor_proto.concat().windows(13).any(|part| part == b"RepeatRequest"));
    drop((client, answers));
    peer.end().await;
}

#[tokio::test]
async fn the_health_is_told_of_the_service_and_of_all() {
    let peer = peer().await;
    let mut client = HealthClient::new(channel(&peer).await);
    for service in ["", "aquifer.echo.v1.Echo"] {
        let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = client.check(HealthCheckRequest { service: "no.Such".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    drop(client);
    peer.end().await;
}

#[tokio::test]
async fn http_goes_on_beside_it() {
    let peer = peer().await;
    let mut client = EchoClient::new(channel(&peer).await);
    client.echo(message("x")).await.unwrap();
    let stream = TcpStream::connect(peer.addresses.h2c).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://cart/").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    drop((sender, client));
    drop(response);
    connection.await.unwrap().unwrap();
    peer.end().await;
}
