//! A slow and obvious reference for the repair of a message: line by line, in one buffer.

/// The ends of lines; the beginning of the data counts like CRLF.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Beginning,
    Crlf,
    Cr,
    Lf,
}

/// Returns what goes up, and the length of the data in the input; `None` if their end has not come.
pub(super) fn reference(input: &[u8], lf_end_of_data: bool) -> Option<(Vec<u8>, usize)> {
    let (mut up, mut at, mut begun_by, mut has_crlf) = (Vec::new(), 0, End::Beginning, false);
    loop {
        let len = input[at..].iter().position(|octet| *octet == b'\r' || *octet == b'\n')?;
        let text = &input[at..at + len];
        let (end, next) = match (input[at + len], input.get(at + len + 1)) {
            (b'\r', Some(b'\n')) => (End::Crlf, at + len + 2),
            (b'\r', Some(_)) => (End::Cr, at + len + 1),
            (b'\r', None) => return None,
            _ => (End::Lf, at + len + 1),
        };
        let is_end = begun_by != End::Lf && begun_by != End::Cr && end == End::Crlf;
        let is_lf_end = lf_end_of_data && !has_crlf && begun_by != End::Cr && end == End::Lf;
        if text == b"." && (is_end || is_lf_end) {
            up.extend(b".\r\n");
            return Some((up, next));
        }
        let nuls = text.iter().take_while(|octet| **octet == 0).count();
        let (nuls, behind) = text.split_at(nuls);
        up.extend(nuls);
        if behind == b"." || behind.starts_with(b".\0") {
            up.push(b'.');
        }
        up.extend(behind);
        up.extend(b"\r\n");
        (at, begun_by, has_crlf) = (next, end, has_crlf || end == End::Crlf);
    }
}
