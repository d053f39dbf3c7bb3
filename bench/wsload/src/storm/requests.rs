//! The requests of a storm, by the number of its turn: those of good clients, and of others.

use std::borrow::Cow;

use crate::{args::StormRequest, target::Target};

/// `{"alg":"HS256","typ":"JWT"}` and `{"sub":"storm","exp":9999999999}`.
const HEADER_AND_CLAIMS: &str =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzdG9ybSIsImV4cCI6OTk5OTk5OTk5OX0";
/// As long as a message of the load.
const MESSAGE_BYTES: usize = 128;

/// The request of a turn.
pub(super) fn request(sends: StormRequest, target: &Target, turn: u64) -> Cow<'_, [u8]> {
    match sends {
        StormRequest::Upgrade => Cow::Borrowed(&target.handshake),
        StormRequest::BadToken => Cow::Owned(with_bad_token(&target.handshake, turn)),
        StormRequest::Publish => {
            let head = format!(
                "POST /broadcast HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\n\
                 Content-Length: {MESSAGE_BYTES}\r\n\r\n",
                target.address
            );
            let message = [b'x'; MESSAGE_BYTES];
            Cow::Owned([&with_bad_token(head.as_bytes(), turn)[..], &message].concat())
        }
    }
}

/// The request with a token whose signature, of 32 bytes, none had before.
fn with_bad_token(request: &[u8], turn: u64) -> Vec<u8> {
    let token = format!("{HEADER_AND_CLAIMS}.{turn:042}A");
    let head = request.strip_suffix(b"\r\n").unwrap_or(request);
    [head, format!("Authorization: Bearer {token}\r\n\r\n").as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::RunCommand;

    /// Every request ends where it should; no two bad tokens are equal.
    #[test]
    fn requests_are_whole_and_bad_tokens_are_new() {
        let args = RunCommand::try_parse_from(["run", "--url", "ws://127.0.0.1:81"]).unwrap().run;
        let target = Target::from_args(&args).unwrap();
        let text =
            |sends, turn| String::from_utf8(request(sends, &target, turn).into_owned()).unwrap();
        let (bad, next) = (text(StormRequest::BadToken, 7), text(StormRequest::BadToken, 8));
        assert_ne!(bad, next);
        assert_eq!(bad.matches("\r\n\r\n").count(), 1, "{bad}");
        assert!(bad.starts_with("GET /ws HTTP/1.1\r\n") && bad.ends_with("7A\r\n\r\n"), "{bad}");
        let token = bad.split_once("Bearer ").unwrap().1.trim_end();
        assert_eq!(token.rsplit('.').next().unwrap().len(), 43);
        let publish = text(StormRequest::Publish, 0);
        let (head, body) = publish.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains("Content-Length: 128") && head.ends_with("0A") && body.len() == 128,
            "{publish}"
        );
    }
}
