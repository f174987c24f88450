//! How the list is written.

/// Groups of choices, as a slice. Each is
/// `call(number on x86_64, on aarch64) "what" [place] [others] { NAME = value [standing], … }`, where
/// - the place is `flags N`, `wide flags N` (64 bits), `value N`, `wide value N`, `half N` and `half flags N` (16), `short N` (5), `name N` of argument N,
///   each perhaps with `at OFFSET` in what that points to;
/// - others are an error, `ignored` or `untried "why"`;
/// - a value is a number, or `(x86_64, aarch64)` of which one may be `-`;
/// - a standing is none for what is supported, `note "…"`, `ignored "…"`, `refused ERROR`, `missing ERROR "why"`, `since "version"`,
///   `ours "what it depends on on Linux"`, `never "why it is not tried"`.
macro_rules! groups {
    ($($call:ident($x86_64:tt, $aarch64:tt) $what:literal [$($place:tt)+] [$($others:tt)+] {
        $($name:ident = $value:tt $([$($standing:tt)+])?,)*
    })*) => {
        &[$($crate::Group {
            call: stringify!($call),
            number: $crate::Each { x86_64: maybe!($x86_64), aarch64: maybe!($aarch64) },
            what: $what,
            place: place!($($place)+),
            kind: kind!($($place)+),
            others: others!($($others)+),
            choices: &[$({
                let choice = $crate::Choice {
                    name: stringify!($name),
                    value: value!($value),
                    standing: $crate::Standing::Supported,
                    trial: $crate::Trial::Both,
                    note: "",
                };
                $(let choice = standing!(choice $($standing)+);)?
                choice
            }),*],
        }),*]
    };
}

macro_rules! maybe {
    (-) => {
        None
    };
    ($value:literal) => {
        Some($value)
    };
}

macro_rules! value {
    (($x86_64:tt, $aarch64:tt)) => {
        $crate::Each {
            x86_64: maybe!($x86_64),
            aarch64: maybe!($aarch64),
        }
    };
    ($value:literal) => {
        $crate::Each {
            x86_64: Some($value),
            aarch64: Some($value),
        }
    };
}

macro_rules! place {
    (wide $($rest:tt)+) => {
        place!($($rest)+)
    };
    (half flags $($rest:tt)+) => {
        place!(flags $($rest)+)
    };
    ($kind:ident $argument:literal) => {
        $crate::Place::Argument($argument)
    };
    ($kind:ident $argument:literal at $offset:literal) => {
        $crate::Place::Field {
            argument: $argument,
            offset: $offset,
        }
    };
}

macro_rules! kind {
    (wide flags $($rest:tt)+) => {
        $crate::Kind::Flags(64)
    };
    (flags $($rest:tt)+) => {
        $crate::Kind::Flags(32)
    };
    (wide value $($rest:tt)+) => {
        $crate::Kind::Values(64)
    };
    (value $($rest:tt)+) => {
        $crate::Kind::Values(32)
    };
    (half flags $($rest:tt)+) => {
        $crate::Kind::Flags(16)
    };
    (short $($rest:tt)+) => {
        $crate::Kind::Values(5)
    };
    (half $($rest:tt)+) => {
        $crate::Kind::Values(16)
    };
    (name $($rest:tt)+) => {
        $crate::Kind::Names
    };
}

macro_rules! others {
    (ignored) => {
        $crate::Others::Ignored
    };
    (untried $why:literal) => {
        $crate::Others::Untried($why)
    };
    ($errno:ident) => {
        $crate::Others::Refused($crate::Errno::$errno)
    };
}

macro_rules! standing {
    ($choice:ident note $note:literal $($rest:tt)*) => {
        standing!($choice {note: $note} $($rest)*)
    };
    ($choice:ident ignored $note:literal $($rest:tt)*) => {
        standing!($choice {standing: $crate::Standing::Ignored, note: $note} $($rest)*)
    };
    ($choice:ident refused $errno:ident $($rest:tt)*) => {
        standing!($choice {standing: $crate::Standing::Refused($crate::Errno::$errno)} $($rest)*)
    };
    ($choice:ident missing $errno:ident $note:literal $($rest:tt)*) => {
        standing!($choice {standing: $crate::Standing::Missing($crate::Errno::$errno), note: $note} $($rest)*)
    };
    ($choice:ident since $version:literal $($rest:tt)*) => {
        standing!($choice {trial: $crate::Trial::Since($version)} $($rest)*)
    };
    ($choice:ident ours $what:literal $($rest:tt)*) => {
        standing!($choice {trial: $crate::Trial::Ours($what)} $($rest)*)
    };
    ($choice:ident never $why:literal $($rest:tt)*) => {
        standing!($choice {trial: $crate::Trial::Never($why)} $($rest)*)
    };
    ($choice:ident {$($field:tt)+} $($rest:tt)+) => {{
        let choice = $crate::Choice { $($field)+, ..$choice };
        standing!(choice $($rest)+)
    }};
    ($choice:ident {$($field:tt)+}) => {
        $crate::Choice { $($field)+, ..$choice }
    };
}
