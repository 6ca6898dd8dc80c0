package cpu

import (
	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// class is a kind of work that has a name, and what is usually done about it.
type class struct {
	id   string
	name ops.Text
	// waste is set for work that is nobody's purpose: a program that mostly does
	// that can be made to do less even if nobody waits.
	waste bool
	// again is set for work that is mostly done anew for what has not changed: a
	// program that does little else can be made to do less, too.
	again bool
	// once is set for work that has the same result whenever it is done, so that all
	// of it beyond the first time need not be.
	once bool
	// names of the functions, as prefixes: who calls them asked for that work.
	names []string
	why   ops.Text
	fix   []ops.Text
}

// classes are tried for each frame from the program's own towards the leaf, in
// their order: the first that matches the frame nearest to the program names the
// work. More special ones come first.
var classes = []class{
	{
		id: "regexp-compile", name: rule.Say("compiling regular expressions", "編譯正規表示式"), waste: true, once: true,
		names: []string{"regexp.Compile", "regexp.MustCompile", "regexp.compile", "regexp.MatchString", "regexp.Match", "regexp.MatchReader", "regexp/syntax."},
		why: rule.Say("An expression is parsed and compiled anew each time that the line runs (`regexp.MatchString` does that too), which takes a hundred times as long as matching a short text with it.",
			"這一行每執行一次，就重新解析並編譯一次正規表示式（`regexp.MatchString` 也一樣），比用它比對一段短文字慢上百倍。"),
		fix: []ops.Text{
			rule.Say("Compile once: a package variable `var re = regexp.MustCompile(…)`, or a map of compiled expressions where they come from a configuration.", "只編譯一次：用套件層級變數 `var re = regexp.MustCompile(…)`；若運算式來自設定，則以 map 快取編譯結果。"),
			rule.Say("Fixed texts need no expression: `strings.Contains`, `strings.HasPrefix`, `strings.Cut`.", "固定字串不需要正規表示式：改用 `strings.Contains`、`strings.HasPrefix`、`strings.Cut`。"),
		},
	},
	{
		id: "template-parse", name: rule.Say("parsing templates", "解析樣板"), waste: true, once: true,
		names: []string{"text/template.(*Template).Parse", "html/template.(*Template).Parse", "html/template.ParseFiles", "html/template.ParseGlob", "html/template.ParseFS", "text/template.ParseFiles", "text/template.ParseGlob", "text/template.ParseFS", "text/template/parse."},
		why:   rule.Say("The template is parsed anew each time that the line runs.", "這一行每執行一次，就重新解析一次樣板。"),
		fix:   []ops.Text{rule.Say("Parse when the program starts (`template.Must`), execute per request.", "啟動時就解析（`template.Must`），每個請求只執行樣板。")},
	},
	{
		id: "regexp", name: rule.Say("matching regular expressions", "比對正規表示式"), again: true, names: []string{"regexp."},
		why: rule.Say("Go's expressions never run away, but they look at every byte in steps that cost tens of nanoseconds.", "Go 的正規表示式不會失控，但每個位元組都要花上數十奈秒。"),
		fix: []ops.Text{
			rule.Say("Test for a fixed part of the text first (`strings.Contains`), and match only what has it.", "先用 `strings.Contains` 檢查固定片段，符合的才做比對。"),
			rule.Say("Replace what is simple by `strings.Cut`, `strings.Fields` or a small scanner of your own.", "簡單的格式改用 `strings.Cut`、`strings.Fields` 或自己寫的小型掃描器。"),
		},
	},
	{
		id: "json", name: rule.Say("JSON", "JSON 編解碼"), again: true,
		names: []string{"encoding/json.", "encoding/json/", "github.com/json-iterator/", "github.com/goccy/go-json", "github.com/bytedance/sonic", "github.com/segmentio/encoding/json", "github.com/mailru/easyjson", "google.golang.org/protobuf/encoding/protojson", "github.com/go-json-experiment/json", "github.com/tidwall/gjson", "github.com/buger/jsonparser"},
		why:   rule.Say("Marshalling and unmarshalling go over every field by reflection and check every byte; the same document is often encoded again for every request.", "編碼與解碼會以反射走訪每個欄位並檢查每個位元組；同一份文件也常為每個請求重新編碼一次。"),
		fix: []ops.Text{
			rule.Say("Encode once and keep the bytes: what all requests get changes less often than it is asked for.", "編碼一次後保留位元組：大家拿到的內容變動的頻率，遠低於被請求的頻率。"),
			rule.Say("Send less: pages instead of whole lists, only the fields that are read, and changes instead of snapshots.", "少送一些：分頁取代整份清單、只送會被讀取的欄位、以差異取代完整快照。"),
			rule.Say("Decode into structs, not into `map[string]any`; use generated code or a faster codec where the format is hot.", "解碼到 struct 而不是 `map[string]any`；熱點格式改用產生的程式碼或更快的編解碼器。"),
		},
	},
	{
		id: "logging", name: rule.Say("logging", "記錄日誌"), waste: true,
		names: []string{"log.", "log/slog.", "go.uber.org/zap", "github.com/rs/zerolog", "github.com/sirupsen/logrus", "k8s.io/klog", "github.com/golang/glog", "github.com/go-kit/log"},
		why:   rule.Say("Every line is formatted, and written under a lock; arguments are formatted even where the level is off if they are built before the call.", "每一行都要格式化，並在鎖內寫出；若參數在呼叫前就組好，即使該等級已關閉，格式化的成本仍在。"),
		fix: []ops.Text{
			rule.Say("Raise the level, or sample: a line per request at most, none within loops.", "提高日誌等級或取樣：每個請求最多一行，迴圈內不要記錄。"),
			rule.Say("Hand values to the logger as attributes instead of formatting them before.", "把值以屬性交給 logger，不要事先格式化。"),
		},
	},
	{
		id: "fmt", name: rule.Say("formatting with fmt", "fmt 格式化"), waste: true, names: []string{"fmt."},
		why: rule.Say("fmt finds out by reflection what it has to print and puts every argument on the heap: some hundred nanoseconds for each call.", "fmt 以反射判斷要輸出什麼，並讓每個參數逃逸到堆積：每次呼叫要數百奈秒。"),
		fix: []ops.Text{
			rule.Say("Use `strconv.AppendInt` and friends on a reused buffer, or a struct as the key of a map instead of a formatted string.", "改用 `strconv.AppendInt` 等函式搭配重複使用的緩衝區；map 的鍵改用 struct 而不是格式化字串。"),
			rule.Say("Move the formatting out of the loop, or do it only when the text is really shown.", "把格式化移出迴圈，或只在真正要顯示文字時才做。"),
		},
	},
	{
		id: "compression", name: rule.Say("compression", "壓縮"),
		names: []string{"compress/", "github.com/klauspost/compress", "github.com/klauspost/pgzip", "github.com/andybalholm/brotli", "github.com/golang/snappy", "github.com/pierrec/lz4", "github.com/DataDog/zstd", "github.com/valyala/gozstd"},
		why:   rule.Say("Compression is among the dearest things that can be done to a byte: 20 to 100 ns each at the higher levels, and as much again for each further step of the level.", "壓縮是對位元組最昂貴的操作之一：較高等級時每位元組要 20 至 100 奈秒，等級越高越貴。"),
		fix: []ops.Text{
			rule.Say("Lower the level (`gzip.BestSpeed` costs about a fifth of `BestCompression` for a result some per cent larger).", "降低壓縮等級（`gzip.BestSpeed` 的成本約為 `BestCompression` 的五分之一，結果只大百分之幾）。"),
			rule.Say("Keep compressed what is sent more than once, and do not compress what is small or compressed already.", "重複送出的內容保留壓縮後的結果；很小或已壓縮過的內容不要再壓。"),
			rule.Say("Reuse writers (`sync.Pool` and `Reset`), and let the proxy in front compress.", "重複使用 writer（`sync.Pool` 加 `Reset`），或交給前面的代理壓縮。"),
		},
	},
	{
		id: "tls", name: rule.Say("TLS handshakes", "TLS 交握"),
		names: []string{
			"crypto/tls.(*Conn).HandshakeContext", "crypto/tls.(*Conn).Handshake", "crypto/tls.(*Conn).handshake", "crypto/tls.(*Conn).serverHandshake", "crypto/tls.(*Conn).clientHandshake",
			"crypto/tls.(*serverHandshakeState", "crypto/tls.(*clientHandshakeState", "crypto/tls.(*Config)", "crypto/tls.X509KeyPair", "crypto/tls.LoadX509KeyPair",
		},
		why: rule.Say("Each new connection costs a signature and a key exchange, a millisecond of CPU with a large RSA key; a request on a connection that is kept costs next to nothing.", "每條新連線都要一次簽章與金鑰交換，使用大的 RSA 金鑰時約需 1 毫秒 CPU；在既有連線上的請求幾乎不花成本。"),
		fix: []ops.Text{
			rule.Say("Keep connections: clients must reuse one http.Client and read bodies to their end, servers and proxies must not close after each request.", "維持連線：用戶端共用同一個 http.Client 並讀完 body，伺服器與代理不要每個請求後就關閉連線。"),
			rule.Say("Use an ECDSA certificate (P-256): its signature costs about a fortieth of one with RSA 3072; let sessions be resumed.", "改用 ECDSA（P-256）憑證：簽章成本約為 RSA 3072 的四十分之一；並允許工作階段恢復。"),
			rule.Say("End TLS in the load balancer.", "在負載平衡器終結 TLS。"),
		},
	},
	{
		id: "signatures", name: rule.Say("signatures and public keys", "數位簽章與公鑰運算"),
		names: []string{
			"crypto/rsa.", "crypto/ecdsa.", "crypto/ed25519.", "crypto/ecdh.", "crypto/elliptic.", "crypto/x509.", "crypto/mlkem.", "crypto/mldsa.", "crypto/dsa.", "crypto/internal/fips140/rsa", "crypto/internal/fips140/ecdsa",
			"crypto/internal/fips140/ed25519", "crypto/internal/fips140/ecdh", "crypto/internal/fips140/bigmod", "github.com/golang-jwt/", "github.com/dgrijalva/jwt-go", "github.com/go-jose/", "github.com/lestrrat-go/jwx", "golang.org/x/crypto/curve25519", "golang.org/x/crypto/ed25519",
		},
		why: rule.Say("An operation with a private key takes from 20 µs (ECDSA, Ed25519) to some milliseconds (RSA): done for every request it is what the processors do.", "一次私鑰運算需要 20 µs（ECDSA、Ed25519）到數毫秒（RSA）；每個請求都做，CPU 就都花在這裡。"),
		fix: []ops.Text{
			rule.Say("Sign once per session and keep the token until shortly before it ends.", "每個工作階段簽一次，並保留 token 到快到期為止。"),
			rule.Say("Use Ed25519 or ECDSA P-256 instead of RSA, or HMAC where both ends are yours.", "以 Ed25519 或 ECDSA P-256 取代 RSA；兩端都是自己的則用 HMAC。"),
			rule.Say("Keep the results of checks for as long as the token is valid.", "在 token 有效期內快取驗證結果。"),
		},
	},
	{
		id: "encryption", name: rule.Say("encryption", "加解密"), names: []string{"crypto/aes.", "crypto/cipher.", "crypto/des.", "crypto/rc4.", "crypto/tls.", "crypto/internal/fips140/aes", "golang.org/x/crypto/"},
		why: rule.Say("Each byte is encrypted or decrypted; with AES-GCM or ChaCha20 that is about a nanosecond, with old ciphers (3DES, RC4, CBC) many times as much.", "每個位元組都要加密或解密；AES-GCM 或 ChaCha20 約 1 奈秒，舊的演算法（3DES、RC4、CBC）則貴上許多倍。"),
		fix: []ops.Text{rule.Say("Use AES-GCM, set keys up once (`cipher.NewGCM`), and do not encrypt twice what TLS encrypts already.", "使用 AES-GCM、金鑰只設定一次（`cipher.NewGCM`），TLS 已加密的內容不要再加密一次。")},
	},
	{
		id: "hashing", name: rule.Say("checksums and hashes", "雜湊與校驗碼"), names: []string{"crypto/sha", "crypto/md5", "crypto/hmac.", "crypto/internal/fips140/sha", "crypto/internal/fips140/hmac", "hash/", "github.com/cespare/xxhash", "github.com/zeebo/", "lukechampine.com/blake3"},
		why: rule.Say("Each byte is hashed; whatever is hashed again without having changed is wasted.", "每個位元組都要雜湊；沒有變動卻重複雜湊的部分都是浪費。"),
		fix: []ops.Text{
			rule.Say("Keep the hash beside what it is of; use a fast one (xxhash, maphash) where nobody attacks.", "把雜湊值和內容一起保存；沒有攻擊風險時改用較快的演算法（xxhash、maphash）。"),
		},
	},
	{
		id: "random", name: rule.Say("random numbers", "亂數"), names: []string{"crypto/rand.", "math/rand", "crypto/internal/sysrand"},
		why: rule.Say("crypto/rand asks the kernel, which costs a system call for each request.", "crypto/rand 向核心取亂數，每次要一個系統呼叫。"),
		fix: []ops.Text{rule.Say("Read larger blocks at once (`bufio.NewReader(rand.Reader)`), or use `math/rand/v2` where nobody can gain from guessing.", "一次讀取較大的區塊（`bufio.NewReader(rand.Reader)`）；猜中也無利可圖的地方改用 `math/rand/v2`。")},
	},
	{
		id: "big-numbers", name: rule.Say("arithmetic with big numbers", "大數運算"), names: []string{"math/big.", "github.com/shopspring/decimal", "github.com/cockroachdb/apd", "github.com/ericlagergren/decimal"},
		why: rule.Say("Numbers of any size are computed word by word and allocated anew for each result.", "任意大小的數字要逐字組計算，每個結果都重新配置記憶體。"),
		fix: []ops.Text{rule.Say("Count money in the smallest unit with int64; reuse the receivers of big.Int's methods.", "金額以最小單位用 int64 計算；重複使用 big.Int 方法的接收者。")},
	},
	{
		id: "protobuf", name: rule.Say("Protocol Buffers", "Protocol Buffers 編解碼"), names: []string{"google.golang.org/protobuf/", "github.com/golang/protobuf", "github.com/gogo/protobuf"},
		why: rule.Say("Messages are encoded and decoded field by field; large nested ones cost as much as the work they carry.", "訊息要逐欄位編解碼；大型巢狀訊息的成本可能不亞於它承載的工作。"),
		fix: []ops.Text{rule.Say("Send smaller messages, stream instead of repeating lists, and keep encoded what many receive.", "縮小訊息、以串流取代重複的清單，並保留多人會收到的編碼結果。")},
	},
	{
		id: "other-codecs", name: rule.Say("encoding and decoding (XML, YAML, gob, CSV …)", "編解碼（XML、YAML、gob、CSV 等）"), again: true,
		names: []string{"encoding/xml.", "encoding/gob.", "encoding/csv.", "encoding/binary.", "encoding/asn1.", "encoding/pem.", "gopkg.in/yaml", "sigs.k8s.io/yaml", "github.com/goccy/go-yaml", "github.com/vmihailenco/msgpack", "github.com/ugorji/go", "github.com/BurntSushi/toml", "github.com/fxamacker/cbor"},
		why:   rule.Say("The format is read or written by reflection, field by field.", "這種格式以反射逐欄位讀寫。"),
		fix:   []ops.Text{rule.Say("Read configuration once; use a binary format with generated code for what is hot.", "設定只讀一次；熱點資料改用二進位格式與產生的程式碼。")},
	},
	{
		id: "templates", name: rule.Say("executing templates", "執行樣板"), again: true, names: []string{"text/template.", "html/template."},
		why: rule.Say("Templates look up every field and method by reflection and escape every value.", "樣板以反射查找每個欄位與方法，並跳脫每個值。"),
		fix: []ops.Text{rule.Say("Keep rendered what is the same for all, or render with generated code.", "所有人都相同的內容保留產生結果，或改用產生的程式碼。")},
	},
	{
		id: "base64", name: rule.Say("base64 and hex", "base64 與 hex 編碼"), names: []string{"encoding/base64.", "encoding/hex.", "encoding/base32."},
		why: rule.Say("Bytes are turned into text and back.", "位元組與文字之間來回轉換。"),
		fix: []ops.Text{rule.Say("Send bytes as bytes, and use `AppendEncode` on a reused buffer.", "直接傳送位元組，並以 `AppendEncode` 搭配重複使用的緩衝區。")},
	},
	{
		id: "sorting", name: rule.Say("sorting", "排序"), again: true, names: []string{"sort.", "slices.Sort", "slices.pdq", "slices.BinarySearch", "slices.insertionSort", "slices.stable", "slices.heapSort", "slices.order", "slices.partition", "container/heap."},
		why: rule.Say("A list is sorted anew whenever it is needed, although little of it has changed since.", "每次需要時都把整份清單重新排序，儘管變動的只有一小部分。"),
		fix: []ops.Text{
			rule.Say("Keep it sorted: insert at the place that `slices.BinarySearch` finds, or keep a heap or a tree for the first few.", "維持排序狀態：以 `slices.BinarySearch` 找到位置插入；只需要前幾名時用 heap 或樹。"),
			rule.Say("Sort on change instead of on read, or once per second for all readers; `slices.SortFunc` is faster than `sort.Slice`.", "在寫入時而不是讀取時排序，或每秒排一次供所有讀者使用；`slices.SortFunc` 比 `sort.Slice` 快。"),
		},
	},
	{
		id: "map-iteration", name: rule.Say("walking over a map", "走訪 map"), waste: true,
		names: []string{"runtime.mapiter", "runtime.mapIter", "internal/runtime/maps.(*Iter)", "reflect.(*MapIter)", "reflect.mapiter", "maps.Keys", "maps.Values", "maps.All"},
		why:   rule.Say("Walking over a map touches all of it in a random order: some ten nanoseconds per entry where it is larger than the caches, every time.", "走訪 map 會以隨機順序碰到所有元素：只要比快取大，每個元素就要數十奈秒，而且每次都要。"),
		fix: []ops.Text{
			rule.Say("Keep an index for the question that is asked: a heap or a list by time for what expires, a counter for what is counted.", "為要問的問題維護索引：到期項目用依時間排序的 heap 或串列，要計數的就維護計數器。"),
			rule.Say("Walk less often, or over a part at a time.", "降低走訪頻率，或每次只走訪一部分。"),
		},
	},
	{
		id: "maps", name: rule.Say("looking up maps", "查找 map"), names: []string{"runtime.mapaccess", "runtime.mapassign", "runtime.mapdelete", "internal/runtime/maps.", "sync.(*Map)", "internal/sync.(*HashTrieMap", "runtime.memhash", "runtime.strhash"},
		why: rule.Say("Each look-up hashes the key and reads memory that is seldom in a cache.", "每次查找都要雜湊鍵值，並讀取多半不在快取中的記憶體。"),
		fix: []ops.Text{rule.Say("Look up once and keep the result in a variable; use integers as keys, or a slice where keys are small numbers.", "查一次並把結果存進變數；鍵改用整數，鍵是小數字時改用 slice。")},
	},
	{
		id: "reflection", name: rule.Say("reflection", "反射"), waste: true, names: []string{"reflect."},
		why: rule.Say("Each access by reflection costs tens of times a direct one, and allocates.", "以反射存取的成本是直接存取的數十倍，還會配置記憶體。"),
		fix: []ops.Text{rule.Say("Replace it by generics, a type switch or generated code; look types up once and keep what was found.", "改用泛型、type switch 或產生的程式碼；型別資訊查一次就快取起來。")},
	},
	{
		id: "strings", name: rule.Say("building strings", "組字串"), waste: true,
		names: []string{"runtime.concatstring", "runtime.slicebytetostring", "runtime.stringtoslicebyte", "runtime.slicerunetostring", "strings.(*Builder)", "strings.Join", "strings.Repeat", "strings.Replace", "strings.ToLower", "strings.ToUpper", "strings.Map", "strings.Split", "strings.Fields", "bytes.(*Buffer)", "strconv."},
		why:   rule.Say("Each string is made anew: `s += x` in a loop copies all that is there already, each time.", "每個字串都是新建的：迴圈中的 `s += x` 每次都把已有的內容整份複製一遍。"),
		fix: []ops.Text{
			rule.Say("Use a `strings.Builder` with `Grow`, or append to a reused []byte.", "使用 `strings.Builder` 並先 `Grow`，或附加到重複使用的 []byte。"),
		},
	},
	{
		id: "linear-search", name: rule.Say("searching slices from their beginning", "逐一搜尋 slice"), waste: true,
		names: []string{"slices.Contains", "slices.Index", "golang.org/x/exp/slices.Contains", "golang.org/x/exp/slices.Index", "github.com/samber/lo.Contains", "github.com/samber/lo.IndexOf", "github.com/samber/lo.Find", "github.com/samber/lo.Uniq"},
		why:   rule.Say("Each search looks at every element until it finds the one: a search for each of n elements takes n² steps.", "每次搜尋都從頭逐一比對，直到找到為止：若對 n 個元素各找一次，就要 n² 步。"),
		fix: []ops.Text{
			rule.Say("Keep a `map[K]struct{}` of what is in it, or a bit set of small numbers.", "改以 `map[K]struct{}` 記錄成員；鍵是小整數時用位元集合。"),
			rule.Say("Keep the slice sorted and use `slices.BinarySearch` where the order matters.", "需要順序時維持 slice 排序，並以 `slices.BinarySearch` 查找。"),
		},
	},
	{
		id: "stack-traces", name: rule.Say("taking stack traces", "擷取呼叫堆疊"), waste: true, names: []string{"runtime.Callers", "runtime.Caller", "runtime.Stack", "runtime/debug.", "runtime.FuncForPC", "runtime.(*Frames)", "github.com/pkg/errors."},
		why: rule.Say("Finding out who called costs microseconds for each stack.", "查出呼叫者是誰，每個堆疊要花數微秒。"),
		fix: []ops.Text{rule.Say("Take stacks only of errors that are logged; turn off the logger's caller field.", "只為會記錄的錯誤擷取堆疊；關閉 logger 的 caller 欄位。")},
	},
	{
		id: "text-search", name: rule.Say("searching and comparing text", "搜尋與比較文字"), names: []string{"strings.", "bytes.", "unicode/", "unicode.", "internal/bytealg.", "internal/stringslite.", "golang.org/x/text/"},
		why: rule.Say("The whole text is looked at, byte by byte, each time.", "每次都逐位元組看過整段文字。"),
		fix: []ops.Text{rule.Say("Look once and keep what was found; index what is searched often.", "找一次就保留結果；經常搜尋的內容建立索引。")},
	},
	{
		id: "time", name: rule.Say("formatting and reading times", "時間的格式化與解析"), names: []string{"time.Time.Format", "time.Time.AppendFormat", "time.Parse", "time.Time.String", "time.LoadLocation"},
		why: rule.Say("Layouts are interpreted anew for each time.", "每次都要重新解譯版面格式。"),
		fix: []ops.Text{rule.Say("Keep the text for the current second, or send numbers.", "保留目前這一秒的文字，或直接傳數字。")},
	},
	{
		id: "images", name: rule.Say("images", "影像處理"), names: []string{"image/", "image.", "golang.org/x/image/"},
		why: rule.Say("Every pixel is touched, often through an interface.", "每個像素都要處理，往往還透過介面。"),
		fix: []ops.Text{rule.Say("Keep what was made, make it elsewhere or beforehand, and work on `img.Pix` directly.", "保留產生的結果、改在他處或事先產生，並直接操作 `img.Pix`。")},
	},
	{
		id: "process-start", name: rule.Say("starting other programs", "啟動其他程式"), waste: true,
		names: []string{"os/exec.", "os.StartProcess", "syscall.forkExec", "syscall.ForkExec", "syscall.StartProcess"},
		why: rule.Say("Each time that the line runs, another program is started: forked, loaded, given pipes and waited for. That takes a thousand times as long as a call of a function, and all forks of a process wait for each other.",
			"這一行每執行一次，就啟動一個外部程式：fork、載入、建立管線、等它結束，比呼叫函式慢上千倍；而且同一個行程的 fork 要互相等待。"),
		fix: []ops.Text{
			rule.Say("Do the work in the process, with a Go library for what the program does.", "改在行程內完成：用做同一件事的 Go 函式庫。"),
			rule.Say("If it has to be that program, keep one running and talk to it, or hand it many items at a time.", "非用那個程式不可時，就讓它一直開著來溝通，或一次交給它多筆。"),
		},
	},
	{
		id: "files", name: rule.Say("opening and looking up files", "開啟與查詢檔案"), again: true,
		names: []string{"os.Stat", "os.Lstat", "os.Open", "os.ReadFile", "os.ReadDir", "os.(*File).Stat", "os.(*File).ReadDir", "os.(*File).Readdir", "path/filepath.Walk", "path/filepath.Glob", "io/ioutil.ReadFile", "io/ioutil.ReadDir", "io/fs.Stat", "io/fs.ReadFile", "io/fs.WalkDir"},
		why:   rule.Say("Each call asks the kernel to find the file anew by its path, some microseconds each, even if nothing about it has changed.", "每次呼叫都要核心依路徑重新找到檔案，即使檔案毫無變動，每次仍要數微秒。"),
		fix: []ops.Text{
			rule.Say("Keep what was read, and look again only now and then, or when the file changes (fsnotify).", "保留讀到的內容，只偶爾再查，或在檔案變動時（fsnotify）才重讀。"),
			rule.Say("Keep the file open, or embed what never changes (`embed`).", "讓檔案保持開啟；永不變動的內容用 `embed` 內嵌。"),
		},
	},
	{
		id: "system-calls", name: rule.Say("system calls", "系統呼叫"), names: []string{"syscall.", "internal/poll.", "os.", "internal/runtime/syscall", "net.", "bufio.(*Writer).Flush", "golang.org/x/sys/"},
		why: rule.Say("Each read or write is a call into the kernel, a microsecond or more however few bytes it moves.", "每次讀寫都是一次核心呼叫，無論搬多少位元組都要一微秒以上。"),
		fix: []ops.Text{rule.Say("Put a `bufio.Writer` or `bufio.Reader` between, and flush once per message or batch.", "中間加上 `bufio.Writer` 或 `bufio.Reader`，每則訊息或每批只 flush 一次。")},
	},
	{
		id: "channels", name: rule.Say("passing values through channels", "透過 channel 傳遞"), waste: true, names: []string{"runtime.chansend", "runtime.chanrecv", "runtime.selectgo", "runtime.selectnb"},
		why: rule.Say("Each value takes a lock, and often wakes a goroutine: 100 ns to some microseconds, for whatever little it carries.", "每個值都要取得鎖，還常要喚醒 goroutine：不論內容多小，都要 100 奈秒到數微秒。"),
		fix: []ops.Text{rule.Say("Pass batches (slices) instead of single values.", "一次傳一批（slice）而不是單一個值。")},
	},
	{
		id: "locking", name: rule.Say("spinning on locks", "在鎖上空轉"), waste: true, names: []string{"sync.(*Mutex)", "sync.(*RWMutex)", "internal/sync.(*Mutex)", "sync/atomic.", "internal/runtime/atomic."},
		why: rule.Say("The processors pass the lock's memory from one to another, and spin before they wait.", "處理器之間不斷傳遞鎖的記憶體，並在等待前空轉。"),
		fix: []ops.Text{rule.Say("Share less: a counter or shard per worker, summed up on reading.", "減少共享：每個 worker 一個計數器或分片，讀取時再加總。")},
	},
	{
		id: "yielding", name: rule.Say("looking again and again whether there is work", "不斷空轉查看有沒有工作"), waste: true, names: []string{"runtime.Gosched"},
		why: rule.Say("The goroutine never waits: it yields (`runtime.Gosched`, a select with a default) and looks again at once, which keeps a processor busy and makes the scheduler work for every round.", "這個 goroutine 從不等待：它讓出處理器（`runtime.Gosched`、帶 default 的 select）後又立刻再看一次，佔住一個處理器，而且每一輪都要排程器工作。"),
		fix: []ops.Text{rule.Say("Wait: receive from the channel without a default, or use a sync.Cond or a context.", "改成等待：接收 channel 時不要 default，或使用 sync.Cond、context。")},
	},
	{
		id: "allocation", name: rule.Say("allocating memory", "配置記憶體"), waste: true, names: []string{"runtime.mallocgc", "runtime.newobject", "runtime.makeslice", "runtime.growslice", "runtime.makemap", "runtime.makechan", "runtime.newarray", "runtime.memclr", "slices.Grow", "slices.Clone", "maps.Clone"},
		why: rule.Say("Each object costs tens of nanoseconds to make and again as much to collect; slices that grow are copied each time.", "每個物件建立要數十奈秒，回收再花一次；不斷成長的 slice 每次都要複製。"),
		fix: []ops.Text{
			rule.Say("Make slices and maps with the size they will have (`make([]T, 0, n)`), and reuse buffers (`sync.Pool`).", "以最終大小建立 slice 與 map（`make([]T, 0, n)`），並重複使用緩衝區（`sync.Pool`）。"),
		},
	},
	{
		id: "copying", name: rule.Say("copying memory", "複製記憶體"), names: []string{"runtime.memmove", "runtime.typedslicecopy", "runtime.typedmemmove", "runtime.duffcopy"},
		why: rule.Say("Large values or slices are copied each time.", "每次都複製大型值或 slice。"),
		fix: []ops.Text{rule.Say("Pass pointers or sub-slices, and copy only what changes.", "傳遞指標或子 slice，只複製會變動的部分。")},
	},
}

// own is computation of the program itself.
var own = class{
	id: "own", name: rule.Say("the program's own code", "程式自己的運算"),
	why: rule.Say("The time is spent in the function's own statements, not in what it calls: loops over too much data, or the same result computed again and again.", "時間花在函式本身的敘述，而不是它呼叫的東西：迴圈處理了太多資料，或一再計算相同的結果。"),
	fix: []ops.Text{
		rule.Say("Look at the line in the flame graph: does it run more often than it has to (a loop within a loop, once per request instead of once per change)?", "在火焰圖看這一行：是否執行得比必要更頻繁（迴圈中的迴圈、每個請求做一次而非每次變動做一次）？"),
		rule.Say("Keep the result and compute it anew only when its input changes.", "保留結果，只有輸入變動時才重新計算。"),
		rule.Say("Until then: bound how many do it at once, so that the rest of the service stays quick, or add pods.", "在那之前：限制同時執行的數量，讓其他功能保持順暢，或增加 Pod。"),
	},
}

// library is work of a dependency that has no name here.
var library = class{
	id: "library", name: rule.Say("a library", "函式庫"),
	why: rule.Say("The time is spent within a library that the line calls.", "時間花在這一行所呼叫的函式庫裡。"),
	fix: []ops.Text{
		rule.Say("Call it less often, or with less; keep what it returned.", "減少呼叫次數或資料量；保留它回傳的結果。"),
		rule.Say("Look in the flame graph which of its functions it is: a newer version or another one may do the same for less.", "在火焰圖看是它的哪個函式：新版本或其他函式庫也許更省。"),
	},
}

// classOf names the work that frame at of the stack has had done by others; own
// code that does it itself is own.
func classOf(s evidence.Stack, at int) *class {
	// A template is made safe when it is executed for the first time: only one that is
	// parsed anew has that done again.
	if s[:at].Has("html/template.escapeTemplate", "html/template.(*escaper).") {
		return named("template-parse")
	}
	foreign := false
	for i := at - 1; i >= 0; i-- {
		f := s[i]
		if f.Origin == evidence.OwnCode {
			continue
		}
		name := f.Plain()
		for c := range classes {
			if hasPrefix(name, classes[c].names) {
				return &classes[c]
			}
		}
		foreign = foreign || f.Origin == evidence.LibraryCode
	}
	if foreign {
		return &library
	}
	return &own
}
