//! Models of servers that take more than CRLF for a line's end, each in one known way.

/// The leniency of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// CRLF alone (RFC 5321 §2.3.8).
    Strict,
    /// LF, and CRLF: LF.LF, LF.CRLF and CRLF.LF end the data (Postfix, Exim and Sendmail before 2024).
    Lf,
    /// CR, and CRLF: CR.CR, CR.CRLF and CRLF.CR do.
    Cr,
    /// CR, LF, and CRLF.
    Any,
    /// Any number of CRs in front of LF: CRLF.CRCRLF does.
    FoldedCr,
    /// CRs are dropped, and LF ends a line.
    DroppedCr,
    /// NULs are dropped; CR, LF and CRLF end a line.
    DroppedNul,
    /// A line's text ends at its first NUL; CR, LF and CRLF end a line.
    CString,
    /// A line of LF and CR, in this order, counts too.
    Reversed,
}

impl Server {
    pub(super) const ALL: [Server; 9] = [
        Server::Strict,
        Server::Lf,
        Server::Cr,
        Server::Any,
        Server::FoldedCr,
        Server::DroppedCr,
        Server::DroppedNul,
        Server::CString,
        Server::Reversed,
    ];

    /// Returns where the server sees the data end, counted in octets: once for each message.
    pub(super) fn ends_of_data(self, data: &[u8]) -> Vec<usize> {
        let mut ends = Vec::new();
        let (mut line, mut at) = (Vec::new(), 0);
        while at < data.len() {
            let len = self.line_end(&data[at..]);
            if len == 0 {
                line.push(data[at]);
                at += 1;
                continue;
            }
            at += len;
            if self.text(&line) == b"." {
                ends.push(at);
            }
            line.clear();
        }
        ends
    }

    /// Returns the length of the line end that the octets begin with; 0 if that is none.
    fn line_end(self, octets: &[u8]) -> usize {
        let is_any = matches!(self, Server::Any | Server::DroppedNul | Server::CString);
        let nuls = octets.iter().skip(1).take_while(|octet| **octet == 0).count();
        match octets {
            [b'\r', b'\n', ..] => 2,
            [b'\n', b'\r', ..] if self == Server::Reversed => 2,
            [b'\n', ..] if is_any || matches!(self, Server::Lf | Server::FoldedCr | Server::DroppedCr) => 1,
            [b'\r', ..] if self == Server::DroppedNul && octets.get(1 + nuls) == Some(&b'\n') => 2 + nuls,
            [b'\r', ..] if is_any || self == Server::Cr => 1,
            [b'\r', ..] if self == Server::FoldedCr => {
                let crs = octets.iter().take_while(|octet| **octet == b'\r').count();
                if octets.get(crs) == Some(&b'\n') { crs + 1 } else { 0 }
            }
            _ => 0,
        }
    }

    /// Returns the text of a line as the server has it.
    fn text(self, line: &[u8]) -> Vec<u8> {
        match self {
            Server::DroppedCr => line.iter().copied().filter(|octet| *octet != b'\r').collect(),
            Server::DroppedNul => line.iter().copied().filter(|octet| *octet != 0).collect(),
            Server::CString => line.iter().copied().take_while(|octet| *octet != 0).collect(),
            _ => line.to_vec(),
        }
    }
}

/// Each model is lenient in its own way: otherwise it would prove nothing.
#[test]
fn each_server_is_fooled_by_its_own_sequence() {
    for (server, sequence) in [
        (Server::Strict, &b"x\r\n.\r\ny"[..]),
        (Server::Lf, b"x\n.\ny"),
        (Server::Lf, b"x\n.\r\ny"),
        (Server::Lf, b"x\r\n.\ny"),
        (Server::Cr, b"x\r.\ry"),
        (Server::Cr, b"x\r.\r\ny"),
        (Server::Cr, b"x\r\n.\ry"),
        (Server::Any, b"x\r.\ny"),
        (Server::FoldedCr, b"x\r\n.\r\r\ny"),
        (Server::DroppedCr, b"x\n\r.\r\r\r\ny"),
        (Server::DroppedNul, b"x\r\n.\0\r\ny"),
        (Server::DroppedNul, b"x\r\0\n.\r\0\ny"),
        (Server::CString, b"x\r\n.\0abc\r\ny"),
        (Server::Reversed, b"x\n\r.\n\ry"),
    ] {
        assert_eq!(server.ends_of_data(sequence), [sequence.len() - 1], "{server:?} {sequence:?}");
        assert_eq!(Server::Strict.ends_of_data(sequence).is_empty(), server != Server::Strict, "{sequence:?}");
    }
}
