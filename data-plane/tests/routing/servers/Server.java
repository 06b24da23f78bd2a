// Answers with the path that Java's server and its URI make of a target, one a line.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.URI;

public class Server {
    public static void main(String[] arguments) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.createContext("/", exchange -> answer(exchange, ""));
        server.createContext("/admin", exchange -> answer(exchange, "/admin"));
        server.setExecutor(java.util.concurrent.Executors.newCachedThreadPool());
        server.start();
        System.out.println(server.getAddress().getPort());
    }

    static void answer(HttpExchange exchange, String context) throws java.io.IOException {
        URI uri = exchange.getRequestURI();
        // The handler of a context was chosen for every path that begins with its name.
        String found = context.isEmpty() || uri.getPath().startsWith("/admin/") || uri.getPath().equals("/admin") ? context : "";
        String text = String.join("\n", found, uri.getPath(), uri.normalize().getPath(),
            URI.create("http://localhost/").resolve(uri).getPath());
        byte[] body = text.getBytes("UTF-8");
        exchange.sendResponseHeaders(200, body.length == 0 ? -1 : body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }
}
