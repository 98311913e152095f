{{/* The name of everything: the release's. Pods' names are the trackers' IDs. */}}
{{- define "tracker.name" -}}
{{- if gt (len .Release.Name) 50 }}{{ fail (printf "release name %q: give at most 50 letters, so that pods' names fit" .Release.Name) }}{{ end -}}
{{- .Release.Name -}}
{{- end }}

{{/* What selects the pods; it must not change in the life of a release. */}}
{{- define "tracker.selector" -}}
app.kubernetes.io/name: tracker
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tracker.labels" -}}
{{ include "tracker.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* A set of seats, the lowest ordinals: a dict of name and count. */}}
{{- define "tracker.seats" -}}
{{- range $i := until (int .count) }}{{ if $i }},{{ end }}{{ $.name }}-{{ $i }}{{ end -}}
{{- end }}

{{/* The fewest trackers there will be. */}}
{{- define "tracker.least" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.minReplicas }}{{ else }}{{ .Values.replicaCount }}{{ end -}}
{{- end }}

{{/* The disruption budget: the smaller of copies-1 and a minority of the seats, also while either is changed. */}}
{{- define "tracker.budget" -}}
{{- $seats := min (int .Values.seats) (int (default .Values.seats .Values.formerSeats)) -}}
{{- $copies := min (int .Values.copies) (int (default .Values.copies .Values.formerCopies)) -}}
{{- min (sub $copies 1) (div (sub $seats 1) 2) -}}
{{- end }}

{{/* GOMEMLIMIT: nine tenths of the limit of memory. */}}
{{- define "tracker.memory" -}}
{{- $limit := .Values.resources.limits.memory -}}
{{- $mi := ternary (mul 1024 (trimSuffix "Gi" $limit | int)) (trimSuffix "Mi" $limit | int) (hasSuffix "Gi" $limit) -}}
{{- div (mul $mi 9) 10 }}MiB
{{- end }}

{{- define "tracker.issuer" -}}
{{- default (printf "%s-ca" (include "tracker.name" .)) .Values.tls.issuer.name -}}
{{- end }}

{{/* What the schema cannot say. */}}
{{- define "tracker.check" -}}
{{- $least := include "tracker.least" . | int -}}
{{- $seats := max (int .Values.seats) (int (default 0 .Values.formerSeats)) -}}
{{- if lt $least $seats -}}
{{- fail (printf "%s: %d trackers are fewer than the %d seats: raise it, or name fewer seats" (ternary "autoscaling.minReplicas" "replicaCount" .Values.autoscaling.enabled) $least $seats) -}}
{{- end -}}
{{- if lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas) -}}
{{- fail (printf "autoscaling.maxReplicas %d is less than minReplicas, %d: raise it" (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) -}}
{{- end -}}
{{- if and (not .Values.insecure) (not .Values.tls.enabled) -}}
{{- fail "tls.enabled false: strangers could read and write claims; enable it, or set insecure" -}}
{{- end -}}
{{- if and .Values.tls.enabled (not .Values.tls.issuer.create) (not .Values.tls.issuer.name) -}}
{{- fail "tls.issuer.name: name the issuer, or let tls.issuer.create make one" -}}
{{- end -}}
{{- if and .Values.tls.issuer.create (ne .Values.tls.issuer.kind "Issuer") -}}
{{- fail (printf "tls.issuer.kind %q: the one made here is an Issuer; set tls.issuer.create to false to use another" .Values.tls.issuer.kind) -}}
{{- end -}}
{{- if and .Values.tracing.endpoint (not .Values.tracing.plain) (not .Values.tracing.caSecret) -}}
{{- fail "tracing: name in caSecret who vouches for the collector, or set plain" -}}
{{- end -}}
{{- end }}
