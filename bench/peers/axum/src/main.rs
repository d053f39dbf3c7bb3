//! axum with tokio's broadcast channel as a broadcast server: a peer in the comparison.
//!
//! usage: peer-axum PORT
//!
//! POST /broadcast sends the body to every client of /ws. Written as axum's users write it well:
//! a task per client, the payload shared, whatever has piled up sent with one flush, and a read
//! buffer of 4 KiB instead of the default's 128. It must not know anything of wsbcast.

use axum::{
    Router,
    body::Bytes,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, Utf8Bytes, WebSocket},
    },
    http::StatusCode,
    response::Response,
    routing::{get, post},
    serve::ListenerExt as _,
};
use futures_util::SinkExt as _;
use tokio::{
    net::TcpSocket,
    sync::broadcast::{self, Receiver, Sender, error::TryRecvError},
};

/// Messages that a slow client may fall behind.
const LAG_MAX: usize = 65_536;
const READ_BUFFER_BYTES: usize = 4096;
const BACKLOG: u32 = 4096;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("usage: peer-axum PORT")?.parse()?;
    rlimit::increase_nofile_limit(u64::MAX)?;
    let (sender, _) = broadcast::channel::<Utf8Bytes>(LAG_MAX);
    let app = Router::new()
        .route("/broadcast", post(publish))
        .route("/ws", get(upgrade))
        .with_state(sender);
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener = socket.listen(BACKLOG)?.tap_io(|stream| {
        // Without it small messages wait for acknowledgements; a socket that has died says so.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await?;
    Ok(())
}

async fn publish(State(sender): State<Sender<Utf8Bytes>>, body: Bytes) -> StatusCode {
    let Ok(text) = Utf8Bytes::try_from(body) else { return StatusCode::BAD_REQUEST };
    // Without a client there is nobody to tell.
    let _ = sender.send(text);
    StatusCode::ACCEPTED
}

async fn upgrade(State(sender): State<Sender<Utf8Bytes>>, request: WebSocketUpgrade) -> Response {
    // Before the answer: from then on a client may expect every message.
    let messages = sender.subscribe();
    request
        .read_buffer_size(READ_BUFFER_BYTES)
        .on_upgrade(async move |socket| serve(socket, messages).await)
}

/// Until the client goes, or falls behind so far that it would miss messages.
async fn serve(mut socket: WebSocket, mut messages: Receiver<Utf8Bytes>) {
    loop {
        tokio::select! {
            message = messages.recv() => {
                let Ok(message) = message else { return };
                if forward(&mut socket, message, &mut messages).await.is_err() {
                    return;
                }
            }
            // Pings are answered inside; the client's own messages are nobody's business.
            heard = socket.recv() => match heard {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

/// Sends `first` and what has come meanwhile.
async fn forward(
    socket: &mut WebSocket,
    first: Utf8Bytes,
    messages: &mut Receiver<Utf8Bytes>,
) -> Result<(), axum::Error> {
    socket.feed(Message::Text(first)).await?;
    loop {
        match messages.try_recv() {
            Ok(message) => socket.feed(Message::Text(message)).await?,
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            Err(error @ TryRecvError::Lagged(_)) => return Err(axum::Error::new(error)),
        }
    }
    socket.flush().await
}
