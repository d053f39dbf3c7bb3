//! Why Redis refused a command, by the text of its answer: pure.
//!
//! The first word is a code. Where a script was refused, older servers put their own code before it
//! and that of the refused command somewhere after (`… 22: -OOM command not …`), and some say in a
//! sentence that a right is missing.

use crate::metrics::BrokerRefusal;

const CODES: [(&str, BrokerRefusal); 15] = [
    ("READONLY", BrokerRefusal::ReadOnly),
    ("NOREPLICAS", BrokerRefusal::NoReplicas),
    ("MISCONF", BrokerRefusal::Misconf),
    ("OOM", BrokerRefusal::Oom),
    ("NOPERM", BrokerRefusal::NoPerm),
    ("NOAUTH", BrokerRefusal::NoAuth),
    ("WRONGPASS", BrokerRefusal::NoAuth),
    ("MOVED", BrokerRefusal::Moved),
    ("ASK", BrokerRefusal::TryAgain),
    ("TRYAGAIN", BrokerRefusal::TryAgain),
    ("CLUSTERDOWN", BrokerRefusal::ClusterDown),
    ("MASTERDOWN", BrokerRefusal::MasterDown),
    ("LOADING", BrokerRefusal::Loading),
    ("BUSY", BrokerRefusal::Busy),
    ("WRONGTYPE", BrokerRefusal::WrongType),
];

/// The error of a script without a right.
const NO_RIGHT: &str = "The user executing the script can't";

/// A command that is not there, by itself and within a script.
const UNKNOWN: [&str; 3] = ["unknown command", "Unknown Redis command", "Unknown command"];

/// Why Redis refused a command, given the `error` that it answered.
pub(crate) fn reason(error: &str) -> BrokerRefusal {
    let mut words = error.split_ascii_whitespace();
    let first = words.next().and_then(code);
    // A word with a dash before it is an answer within the answer.
    let within = || words.find_map(|word| code(word.strip_prefix('-')?));
    let known = first.or_else(within);
    match known {
        Some(reason) => reason,
        None if error.contains(NO_RIGHT) => BrokerRefusal::NoPerm,
        None if UNKNOWN.iter().any(|text| error.contains(text)) => BrokerRefusal::UnknownCommand,
        None => BrokerRefusal::Other,
    }
}

fn code(word: &str) -> Option<BrokerRefusal> {
    CODES.iter().find(|(code, _)| *code == word).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_refusing_has_its_reason() {
        use BrokerRefusal::*;
        let table = [
            ("READONLY You can't write against a read only replica. script: 1f", ReadOnly),
            ("NOREPLICAS Not enough good replicas to write.", NoReplicas),
            ("MISCONF Redis is configured to save RDB snapshots, but …", Misconf),
            ("MISCONF Errors writing to the AOF file: No space left on device", Misconf),
            ("OOM command not allowed when used memory > 'maxmemory'. script: 1f", Oom),
            ("ERR Error running script (call to f_1): @user_script:9: -OOM command not", Oom),
            ("ERR Error running script (call to f_1): @user_script:9: -READONLY You", ReadOnly),
            ("NOPERM this user has no permissions to run the 'evalsha' command", NoPerm),
            ("ERR The user executing the script can't run this command or subcommand", NoPerm),
            ("ERR The user executing the script can't access at least one of the keys", NoPerm),
            ("NOAUTH Authentication required.", NoAuth),
            ("MOVED 866 127.0.0.1:7001", Moved),
            ("ASK 866 127.0.0.1:7001", TryAgain),
            ("CLUSTERDOWN Hash slot not served", ClusterDown),
            ("MASTERDOWN Link with MASTER is down and …", MasterDown),
            ("LOADING Redis is loading the dataset in memory", Loading),
            ("BUSY Redis is busy running a script.", Busy),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", WrongType),
            ("ERR unknown command 'EVALSHA', with args beginning with: ", UnknownCommand),
            ("ERR Unknown Redis command called from script (XADD)", UnknownCommand),
            ("ERR max daily request limit exceeded", Other),
            ("", Other),
        ];
        for (error, expected) in table {
            assert_eq!(reason(error), expected, "{error}");
        }
    }
}
