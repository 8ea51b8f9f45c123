import java.io.*;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.security.cert.X509Certificate;
import javax.net.ssl.*;

/**
 * A device with Java's TLS: carries standard input and output.
 * Arguments: HOST PORT PROTOCOLS CIPHERS|- [imap|pop3|smtp], where PROTOCOLS is a comma-separated list, as SSLv2Hello,TLSv1
 * (that sends its ClientHello in SSLv2 format), and the last argument asks for STARTTLS or STLS.
 */
public class Device {
    public static void main(String[] arguments) throws Exception {
        TrustManager everybody = new X509TrustManager() {
            public void checkClientTrusted(X509Certificate[] chain, String type) {}
            public void checkServerTrusted(X509Certificate[] chain, String type) {}
            public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
        };
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, new TrustManager[] {everybody}, null);
        // A device has its TLS ready before it connects: loading it takes Java longer than a listener may wait for TLS.
        hello(context, arguments);
        Socket plain = new Socket(arguments[0], Integer.parseInt(arguments[1]));
        plain.setTcpNoDelay(true);
        if (arguments.length > 4) {
            line(plain.getInputStream());
            String command = arguments[4].equals("pop3") ? "STLS\r\n" : "STARTTLS\r\n";
            plain.getOutputStream().write(((arguments[4].equals("imap") ? "s " : "") + command).getBytes());
            line(plain.getInputStream());
        }
        SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(plain, arguments[0], plain.getPort(), true);
        socket.setEnabledProtocols(arguments[2].split(","));
        if (!arguments[3].equals("-")) socket.setEnabledCipherSuites(arguments[3].split(","));
        socket.startHandshake();
        System.err.println(socket.getSession().getProtocol() + " " + socket.getSession().getCipherSuite());
        Thread up = new Thread(() -> {
            try {
                copy(System.in, socket.getOutputStream());
                socket.close();
            } catch (IOException gone) {
                System.exit(0);
            }
        });
        up.setDaemon(true);
        up.start();
        copy(socket.getInputStream(), System.out);
    }

    /** Makes a ClientHello that is not sent, and so loads each class that the next one needs. */
    static void hello(SSLContext context, String[] arguments) throws Exception {
        SSLEngine engine = context.createSSLEngine(arguments[0], Integer.parseInt(arguments[1]));
        engine.setUseClientMode(true);
        engine.setEnabledProtocols(arguments[2].split(","));
        ByteBuffer record = ByteBuffer.allocate(engine.getSession().getPacketBufferSize());
        engine.wrap(ByteBuffer.allocate(0), record);
    }

    static void line(InputStream input) throws IOException {
        int octet;
        do {
            octet = input.read();
            if (octet < 0) throw new EOFException();
        } while (octet != '\n');
    }

    static void copy(InputStream from, OutputStream to) throws IOException {
        byte[] buffer = new byte[65536];
        for (int count; (count = from.read(buffer)) > 0; ) {
            to.write(buffer, 0, count);
            to.flush();
        }
    }
}
