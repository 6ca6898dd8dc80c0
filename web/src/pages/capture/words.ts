// Words of the capture page's tabs.
import { words } from "../../i18n";

export const table = {
  tabs: ["Views of this capture", "這次擷取的檢視"],
  diagnosis: ["Diagnosis", "診斷"],
  "whose.any": ["the one that shows most", "看得最清楚的那個"],
  files: ["Files", "檔案"],
  flame: ["Flame graph", "火焰圖"],
  timeline: ["Timeline", "時間軸"],
  "timeline.none": ["There is no execution trace in this capture; open it to take one", "這次擷取沒有執行追蹤；開啟後可以再擷取一次"],
  goroutines: ["Goroutines", "Goroutine"],
  metrics: ["Runtime metrics", "執行期指標"],
  cancelled: ["This capture was cancelled", "這次擷取已取消"],
  "cancelled.text": ["What had been recorded was dropped, so there is nothing to diagnose.", "已錄下的內容都丟棄了，所以沒有可以診斷的資料。"],
} as const;

export const { t, tn } = words(table);
