//! Clients whose key of TLS has been used enough.

use super::*;
use crate::{limits::TLS12_RECORDS_MAX, tls};

/// A client whose key of TLS 1.2 is worn is told by a Close frame to come back for another one;
/// before that it is pinged only.
#[test]
fn a_client_with_a_worn_key_is_sent_away_in_time() {
    for (records, is_worn) in [(TLS12_RECORDS_MAX / 2, false), (TLS12_RECORDS_MAX, true)] {
        let mut table = table(settings());
        let (mut session, mut client) = tls::tests::greeted_by_tls12();
        session.age(records);
        let key = table.admit();
        let mut peer =
            table.connect_as(key, Millis(0), |all| Connected { session: Some(session), ..all });
        table.clients.on_tick(Millis(25_100));
        table.clients.on_tick(Millis(25_200));
        let mut said = Vec::new();
        let wanted = if is_worn { 4 } else { 2 };
        while said.len() < wanted {
            client.read_tls(&mut peer).unwrap();
            client.process_new_packets().unwrap();
            let mut bytes = [0; 200];
            match client.reader().read(&mut bytes) {
                Ok(count) => said.extend_from_slice(&bytes[..count]),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
        let (ping, close) = said.split_at(2);
        assert_eq!(ping, b"\x89\x00");
        let restarts = String::from_utf8_lossy(close).contains("service restart; retry in ");
        assert_eq!(restarts, is_worn, "{records}: {close:?}");
    }
}
