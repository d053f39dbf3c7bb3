//! A label's words and the enum behind them, declared together.
//!
//! The enum is what code counts by, its words are what dashboards read: neither can be changed
//! without the other.

/// Declares a label's words: an enum, its words in order, their number.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// The label's values, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The label's value for this one.
            #[must_use]
            pub const fn word(self) -> &'static str {
                Self::WORDS[self as usize]
            }
        }
    };
}
